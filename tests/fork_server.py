"""A process that has imported everything and forks a child for each command line.

A restart then costs what restoring and compiling cost, without the seconds of importing. A child
starts its own JAX backend: the server never does (a backend does not survive a fork).

Protocol: a line of JSON {'module', 'arguments', 'stdout', 'stderr', 'config'} in; the child's pid
out; when it has ended, its exit code out (negative: the signal). stdout and stderr are files.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import warnings

ROOT = pathlib.Path(__file__).parent.parent
# The command's own module is imported by the child: two of them define the same flags.
PRELOADED = (
    'jaxgen.cli', 'jaxgen.training.loop', 'jaxgen.training.restore', 'jaxgen.evaluation.evaluators',
    'ml_collections.config_flags', 'grain', 'tensorboardX', 'tensorflow_datasets',
    'array_record.python.array_record_data_source',
)  # fmt: skip


@dataclasses.dataclass
class Child:
    """A running command. `wait` gives its exit code, `out` and `err` what it wrote so far."""

    server: subprocess.Popen
    pid: int
    stdout: pathlib.Path
    stderr: pathlib.Path
    code: int | None = None

    @property
    def out(self):
        return self.stdout.read_text()

    @property
    def err(self):
        return self.stderr.read_text()

    def kill(self, signum=signal.SIGKILL):
        os.kill(self.pid, signum)

    def ended(self):
        """Whether it is dead; a zombie is."""
        try:
            status = pathlib.Path(f'/proc/{self.pid}/stat').read_text()
        except OSError:
            return True
        return status.rpartition(')')[2].split()[0] == 'Z'

    def wait(self):
        if self.code is None:
            self.code = int(self.server.stdout.readline())
        return self.code

    def wait_until(self, condition, seconds=120.0):
        """Polls `condition()`; False where the child ended before it came true."""
        end = time.monotonic() + seconds
        while not condition():
            if self.ended():
                return False
            assert time.monotonic() < end, f'nothing for {seconds} s:\n{self.out}\n{self.err}'
            time.sleep(0.001)
        return True


class ForkServer:
    """Starts commands one after the other; a context manager."""

    def __init__(self, folder, **environment):
        self._folder, self._count = pathlib.Path(folder), 0
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {'PYTHONPATH': str(ROOT)} | environment,
        )
        assert self._process.stdout.readline() == 'ready\n'

    def start(self, module, *arguments, config=None):
        self._count += 1
        files = {name: self._folder / f'{self._count}.{name}' for name in ('stdout', 'stderr')}
        order = {'module': module, 'arguments': arguments, 'config': config or {}}
        self._process.stdin.write(json.dumps(order | {k: str(f) for k, f in files.items()}) + '\n')
        self._process.stdin.flush()
        return Child(self._process, int(self._process.stdout.readline()), **files)

    def run(self, module, *arguments, config=None):
        child = self.start(module, *arguments, config=config)
        child.wait()
        return child

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(timeout=60)


def serve():
    for name in PRELOADED:
        importlib.import_module(name)
    warnings.filterwarnings('ignore', message='.*fork.*')
    print('ready', flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(_become(order))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(order):
    """The child: its own output, then the command. Returns the exit code."""
    # The Python objects write to the same descriptors as before.
    for stream, name in ((1, 'stdout'), (2, 'stderr')):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    import jax
    from absl import flags

    from jaxgen import cli

    # ml_collections looks there for the fields that are overridden.
    sys.argv = [order['module'], *order['arguments']]
    for name, value in order['config'].items():
        jax.config.update(name, value)
    try:
        module = importlib.import_module(order['module'])
        # An app has flags of its own.
        code = cli.run(module.main, sys.argv, values=getattr(module, '_FLAGS', flags.FLAGS))
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == '__main__':
    serve()
