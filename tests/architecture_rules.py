"""The house rules of ARCHITECTURE.md, read from the syntax tree; test_architecture.py runs them.

A rule is a function from the modules of a tree to lines `module:line: what is wrong`.
"""

import ast
import dataclasses
import sys

# A room imports from lower floors and side rooms. A new room gets its place here first.
FLOORS = {
    'ops': 0, 'nn': 1, 'losses': 1, 'augment': 1, 'models': 2, 'objectives': 3, 'tasks': 4,
    'training': 5, 'evaluation': 6, 'apps': 7,
}  # fmt: skip
# What each side room imports of the house itself: nothing, except that an importer of published
# weights builds the module that takes them.
SIDE_ROOMS = {
    'parallel': set(), 'data': set(), 'metrics': set(),
    'interop': {'ops', 'nn', 'models', 'metrics'},
}  # fmt: skip
# Each is jaxgen/NAME.py, above all floors.
COMMANDS = {'train', 'sample', 'evaluate', 'export', 'report', 'compile'}
# The other files at the top: how a command line fails, and how it and its config are read.
LOOSE = {'cli', 'errors', 'variants'}

CONFIG_FLOOR = 4  # from here up a room may know configs and files
# Below it, and in jaxgen.parallel, nothing else comes from outside the standard library.
OUTSIDE = {
    'ops': {'jax', 'numpy'},
    'nn': {'jax', 'numpy', 'flax'},
    'losses': {'jax', 'numpy'},
    'augment': {'jax', 'numpy'},
    'models': {'jax', 'numpy', 'flax'},
    'objectives': {'jax', 'numpy', 'flax', 'optax'},
    'parallel': {'jax', 'numpy'},
}
# Side rooms that read files are not for the floors that must not.
SIDE_ROOMS_BELOW = {'parallel', 'metrics'}
NEVER = {'tensorflow', 'torch', 'keras', 'torchvision'}

FILE_MODULES = {
    'fileinput', 'glob', 'io', 'linecache', 'mmap', 'os', 'pathlib', 'pickle', 'shelve', 'shutil',
    'sqlite3', 'subprocess', 'tarfile', 'tempfile', 'urllib', 'zipfile',
}  # fmt: skip
FILE_CALLS = {'open', 'jax.numpy.load', 'jax.numpy.save', 'jax.numpy.savez', 'jax.numpy.fromfile'}
FILE_CALLS |= {'numpy.' + name for name in (
    'fromfile', 'genfromtxt', 'load', 'loadtxt', 'memmap', 'save', 'savetxt', 'savez',
)}  # fmt: skip
FILE_METHODS = {'open', 'read_text', 'read_bytes', 'write_text', 'write_bytes', 'tofile'}

# Calls below these make arrays, or ask for devices; the exceptions make dtypes and functions.
BACKEND = ('jax.numpy', 'jax.random', 'jax.lax', 'jax.scipy', 'jax.nn', 'jax.image', 'jax.dlpack')
BACKEND_CALLS = {'jax.' + name for name in (
    'device_put', 'devices', 'local_devices', 'device_count', 'local_device_count', 'make_mesh',
    'process_index', 'process_count', 'default_backend', 'make_array_from_callback',
)}  # fmt: skip
BACKEND_FREE = ('jax.nn.initializers',)
BACKEND_FREE_CALLS = {'jax.numpy.' + name for name in (
    'dtype', 'finfo', 'iinfo', 'issubdtype', 'vectorize',
)}  # fmt: skip

FILE_LINES, FUNCTION_LINES, COMMAND_LINES = 400, 60, 80


@dataclasses.dataclass(frozen=True)
class Module:
    """One file: its dotted name, the package it lies in, its text."""

    name: str
    package: str
    text: str = dataclasses.field(repr=False)
    tree: ast.Module = dataclasses.field(repr=False)

    @property
    def room(self):
        """The first name below jaxgen; '' for jaxgen itself."""
        return (*self.name.split('.'), '')[1]

    @property
    def is_command(self):
        """Whether it is run: a command line at the top, or a module with a main guard."""
        at_top = self.name == f'jaxgen.{self.room}' and self.room in COMMANDS
        return at_top or any(is_main_guard(node) for node in self.tree.body)

    def imports(self):
        """(dotted name, line) of every import, also inside functions; `from a import b` is a.b."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ''
                if node.level:
                    parents = self.package.split('.')
                    parents = parents[: len(parents) - node.level + 1]
                    base = '.'.join([*parents, base]).rstrip('.')
                yield from ((f'{base}.{alias.name}', node.lineno) for alias in node.names)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ('import_module', '__import__')
            ):
                name = node.args[0] if node.args else None
                known = isinstance(name, ast.Constant)
                yield (str(name.value) if known else 'a name made at run time'), node.lineno

    def names(self):
        """Local name -> the dotted name that it was imported as."""
        names = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.split('.')[0]
                    names[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    names[alias.asname or alias.name] = f'{node.module}.{alias.name}'
        return names


def read_tree(package):
    """Every module below the folder `package`."""
    modules = []
    for path in sorted(package.rglob('*.py')):
        parts = [package.name, *path.relative_to(package).with_suffix('').parts]
        parent = '.'.join(parts[:-1])
        name = parent if parts[-1] == '__init__' else '.'.join(parts)
        text = path.read_text()
        modules.append(Module(name, parent, text, ast.parse(text, str(path))))
    return modules


def rooms_are_known(modules):
    """Each room and each file at the top stands in a table above."""
    for module in modules:
        nested = len(module.name.split('.')) > 2 or module.package == module.name
        known = FLOORS.keys() | SIDE_ROOMS.keys() if nested else COMMANDS | LOOSE
        if module.room and module.room not in known:
            yield f'{module.name}:1: unknown room {module.room!r}'


def may_import(module, room):
    """Whether `module` may import something of `room`."""
    own = module.room
    if room == own or room in ('errors', '__version__'):
        return own not in ('', 'errors') or room == '__version__'
    if room == 'cli':
        return module.is_command
    if own in COMMANDS:
        return room in FLOORS or room in SIDE_ROOMS
    if own in SIDE_ROOMS:
        return room in SIDE_ROOMS[own]
    if room in SIDE_ROOMS:
        return FLOORS.get(own, -1) >= CONFIG_FLOOR or (own in FLOORS and room in SIDE_ROOMS_BELOW)
    return own in FLOORS and room in FLOORS and FLOORS[room] < FLOORS[own]


def rooms_import_from_below(modules):
    """Lower floors and side rooms only; errors, variants: nothing; cli is for command lines."""
    for module in modules:
        for name, line in module.imports():
            parts = name.split('.')
            if parts[0] == 'jaxgen' and len(parts) > 1 and not may_import(module, parts[1]):
                yield f'{module.name}:{line}: {module.room or "jaxgen"} imports jaxgen.{parts[1]}'
            elif module.room in ('', 'errors', 'variants') and module.package == 'jaxgen':
                yield f'{module.name}:{line}: imports {parts[0]}, must import nothing'


def rooms_import_from_outside_what_they_may(modules):
    """A module of the lower floors can be taken alone: jax, flax and numpy are all it needs."""
    for module in modules:
        allowed = OUTSIDE.get(module.room)
        for name, line in module.imports():
            top = name.split('.')[0]
            foreign = top not in sys.stdlib_module_names and top != 'jaxgen'
            if top in NEVER or (allowed is not None and foreign and top not in allowed):
                yield f'{module.name}:{line}: {module.room} imports {top}'


def lower_floors_read_no_files(modules):
    """Neither files nor the environment: what a function returns depends on its arguments alone."""
    for module in modules:
        if FLOORS.get(module.room, CONFIG_FLOOR) >= CONFIG_FLOOR:
            continue
        for name, line in module.imports():
            top = name.split('.')[0]
            if top in FILE_MODULES or name.startswith('importlib.resources'):
                yield f'{module.name}:{line}: reads files: {top}'
        names = module.names()
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                name = dotted(node.func, names)
                method = isinstance(node.func, ast.Attribute) and node.func.attr in FILE_METHODS
                if name in FILE_CALLS or method:
                    yield f'{module.name}:{node.lineno}: reads files: {ast.unparse(node.func)}'


def dotted(node, names):
    """`jnp.zeros` -> 'jax.numpy.zeros'; '' for what is no name."""
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, names)
        return f'{base}.{node.attr}' if base else ''
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ''


def is_main_guard(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def run_at_import(node):
    """Every node that importing runs: defaults and decorators, but not the bodies of functions."""
    if is_main_guard(node):
        return
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        children = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        children += getattr(node, 'decorator_list', [])
    else:
        children = ast.iter_child_nodes(node)
    for child in children:
        yield from run_at_import(child)


def importing_makes_no_array(modules):
    """An array at import time would start the backend before jax.distributed.initialize."""
    for module in modules:
        names = module.names()
        for node in run_at_import(module.tree):
            if not isinstance(node, ast.Call):
                continue
            name = dotted(node.func, names)
            makes = name in BACKEND_CALLS or name.startswith(tuple(f'{b}.' for b in BACKEND))
            free = name in BACKEND_FREE_CALLS or name.startswith(BACKEND_FREE)
            if makes and not free:
                yield f'{module.name}:{node.lineno}: {name} is called at import time'


def files_and_functions_are_short(modules):
    """Longer is a sign that two ideas share a room."""
    for module in modules:
        at_top = module.name == f'jaxgen.{module.room}'
        allowed = COMMAND_LINES if at_top and module.room in COMMANDS else FILE_LINES
        if (lines := len(module.text.splitlines())) > allowed:
            yield f'{module.name}:{allowed}: has {lines} lines, at most {allowed}'
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES:
                    yield f'{module.name}:{node.lineno}: {node.name} has {lines} lines'


def public_names_have_docstrings(modules):
    """Modules, and the functions and classes at their top that don't begin with an underscore."""
    for module in modules:
        for node in (module.tree, *module.tree.body):
            name = getattr(node, 'name', '')
            documented = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
            public = isinstance(node, documented) and not name.startswith('_')
            if public and not ast.get_docstring(node):
                yield f'{module.name}:{getattr(node, "lineno", 1)}: {name} has no docstring'


RULES = [
    rooms_are_known,
    rooms_import_from_below,
    rooms_import_from_outside_what_they_may,
    lower_floors_read_no_files,
    importing_makes_no_array,
    files_and_functions_are_short,
    public_names_have_docstrings,
]
