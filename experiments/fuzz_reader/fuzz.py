"""Damages files of published weights at random, and counts what the reader makes of them.

    python experiments/fuzz_reader/fuzz.py --count=6000 --seed=0

Each file must be read, or be refused with one line. Anything else (another exception, a call from
inside the file, more than `SECONDS` or `MEGABYTES`) is a failure; the exit code is 1 if there is
one, and `--keep=FOLDER` keeps the files.
"""

import argparse
import collections
import io
import os
import pathlib
import pickletools
import resource
import struct
import sys
import tempfile
import time
import warnings
import zipfile

import numpy as np

from jaxgen.errors import UserError
from jaxgen.interop import imported, torch_reader, unpickle

FILES = pathlib.Path(__file__).resolve().parents[2] / 'tests' / 'golden' / 'cips' / 'pt'
SECONDS = 2.0  # of processor time for one file
MEGABYTES = 300  # above what the intact files need, over the whole run

# Instructions that a mutation puts in: calls, ends, stack and memo, lengths, nests, references.
SNIPPETS = (
    b'cposix\nmkdir\nX\6\0\0\0marker\x85R', b'cbuiltins\neval\nX\1\0\0\x001\x85R', b'.', b'(', b't',
    b'u', b'e', b'R', b'b', b'Q', b'0', b'2', b'h\0', b'q\0', b'r\xff\xff\xff\xff', b'j\0\1\0\0',
    b'X\xff\xff\xff\xff', b'\x8b\xff\xff\xff\x7f', b'\x8a\x08' + b'\xff' * 8, b'J\xff\xff\xff\xff',
    b'\x8a\x09' + b'\xff' * 8 + b'\0', b']' * 200, b'\x85' * 200, b'N', b')', b'}', b'\x93',
    b'\x81', b'\x95' + b'\xff' * 8, b'ctorch\nFloatStorage\n', b'\x80\5', b'(lp0\n', b'\x94',
    b'ctorch._utils\n_rebuild_tensor_v2\n', b'G\x7f\xf0\0\0\0\0\0\0', b'\x8f', b'\x97', b'\x82\1',
)  # fmt: skip


def flip(data, rng, _):
    """Some bytes, most often few, to other values."""
    data = bytearray(data)
    for place in rng.integers(0, len(data), 2 ** rng.integers(0, 6)):
        data[place] = rng.integers(0, 256)
    return bytes(data)


def near_the_ends(data, rng, _):
    """Bytes where the structure lies: headers in front, the directory of a zip behind."""
    data = bytearray(data)
    reach = min(len(data), 600)
    for place in rng.integers(0, reach, 2 ** rng.integers(0, 4)):
        data[place if rng.integers(2) else -1 - place] = rng.integers(0, 256)
    return bytes(data)


def truncate(data, rng, _):
    """Without its end."""
    return data[: rng.integers(0, len(data))]


def splice(data, rng, others):
    """A part of any file instead of a part of this one."""
    other = others[rng.integers(len(others))]
    start, length = rng.integers(0, len(other)), 2 ** rng.integers(0, 12)
    place, gap = rng.integers(0, len(data)), 2 ** rng.integers(0, 12)
    return data[:place] + other[start : start + length] + data[place + gap :]


def entries(data, rng, others):
    """An entry of a zip damaged, removed, doubled, renamed or exchanged, with right checksums."""
    if not data.startswith(b'PK'):
        return splice(data, rng, others)
    pairs = unpack(data)
    i, j = rng.integers(0, len(pairs), 2)
    if rng.integers(3) == 0:  # the two entries that are not storages, often
        i = [k for k, (name, _) in enumerate(pairs) if name.endswith(('data.pkl', 'order'))][
            rng.integers(2)
        ]
    name, content = pairs[i]
    match rng.integers(8):
        case 0 | 6 | 7:
            pairs[i] = name, flip(content, rng, None)
        case 1:
            del pairs[i]
        case 2:
            pairs.append((name, content))
        case 3:
            pairs[i] = pairs[j][0], content
        case 4:
            pairs[i] = name, content + content
        case 5:
            pairs[i] = name, content[: rng.integers(0, len(content) + 1)]
    return pack(pairs)


def instructions(data, rng, _):
    """The pickle that describes the data: instructions removed, doubled, exchanged or put in."""
    whole = data.startswith(b'PK')
    pairs = unpack(data) if whole else [('data.pkl', data)]
    (i,) = (k for k, (name, _) in enumerate(pairs) if name.endswith('data.pkl'))
    name, pickle = pairs[i]
    start, pickle, rest = (b'', pickle, b'') if whole else split_stream(pickle)
    parts = split(pickle)
    for _ in range(2 ** rng.integers(0, 3)):
        a, b = rng.integers(0, len(parts), 2)
        match rng.integers(5):
            case 0:
                parts[a] = b''
            case 1:
                parts[a] += parts[a]
            case 2:
                parts[a], parts[b] = parts[b], parts[a]
            case 3:
                parts[a] = SNIPPETS[rng.integers(len(SNIPPETS))] + parts[a]
            case 4 if len(parts[a]) > 1:
                parts[a] = parts[a][:1] + flip(parts[a][1:], rng, None)
    pairs[i] = name, start + b''.join(parts) + rest
    return pack(pairs) if whole else pairs[i][1]


MUTATIONS = (flip, near_the_ends, truncate, splice, entries, instructions)


def unpack(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def pack(pairs):
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, 'w') as archive:
        warnings.simplefilter('ignore')  # of a name that is there twice
        for name, data in pairs:
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def split(pickle):
    """A pickle cut into its instructions."""
    places = [place for _, _, place in pickletools.genops(pickle)]
    return [pickle[a:b] for a, b in zip(places, [*places[1:], None], strict=True)]


def split_stream(data):
    """(what is before, the pickle of the data, what is behind) of a file of the older format."""
    ends = [0]
    for _ in range(4):
        *_, (_, _, last) = pickletools.genops(data[ends[-1] :])
        ends.append(ends[-1] + last + 1)
    return data[: ends[3]], data[ends[3] : ends[4]], data[ends[4] :]


def as_stream(data):
    """A zip of `torch.save` in the format of PyTorch before 1.6.

    There a reference to a storage has a sixth entry, None, and the storages stand at the end, each
    behind its number of elements.
    """
    content = dict(unpack(data))
    top = next(name for name in content if name.endswith('data.pkl')).removesuffix('data.pkl')
    counts = {}

    def storage(reference):
        _, dtype, key, _, counts[key] = reference
        return torch_reader.Storage(np.zeros(counts[key], dtype))

    unpickle.Unpickler(content[top + 'data.pkl'], torch_reader.ALLOWED, persistent=storage).load()
    parts = split(content[top + 'data.pkl'])
    for i, part in enumerate(parts):
        if part == b'Q':
            back = next(k for k in range(i, 0, -1) if parts[k] == b't')
            parts[back] = b'Nt'
    listed = b''.join(b'X' + struct.pack('<I', len(key)) + key.encode() for key in counts)
    head = b'\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.' + b'\x80\2M\xe9\3.' + b'\x80\2}.'
    tail = (struct.pack('<q', counts[key]) + content[f'{top}data/{key}'] for key in counts)
    return head + b''.join(parts) + b'\x80\2](' + listed + b'e.' + b''.join(tail)


def outcome(path):
    """'read' (and imported), 'read, not CIPS', or 'refused'; any other exception passes."""
    for read, refused in (
        (torch_reader.read, 'refused'),
        (imported.read_published, 'read, not CIPS'),
    ):
        try:
            read(path)
        except UserError as error:
            return refused if str(error).isprintable() else f'not one line: {error!r}'
    return 'read'


def memory():
    """The largest this process has been, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(count, seed, keep=None):
    """Rows (mutation, outcome) -> number, failures as text, the slowest file and the memory."""
    intact = [path.read_bytes() for path in sorted(FILES.glob('*.pt'))]
    intact += [as_stream(data) for data in intact]
    rng = np.random.default_rng(seed)
    rows, failures, slowest = collections.Counter(), [], 0.0
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            path = pathlib.Path('damaged.pt')
            for data in intact:
                path.write_bytes(data)
                assert outcome(path) == 'read'
            start = memory()
            for i in range(count):
                mutate = MUTATIONS[i % len(MUTATIONS)]
                path.write_bytes(mutate(intact[rng.integers(len(intact))], rng, intact))
                clock = time.process_time()
                try:
                    found = outcome(path)
                except Exception as error:
                    found = f'{type(error).__name__}: {error}'
                seconds = time.process_time() - clock
                slowest = max(slowest, seconds)
                if os.listdir() != ['damaged.pt']:
                    found = 'a call was made'
                    os.rmdir('marker')
                elif seconds > SECONDS:
                    found = f'took {seconds:.1f} s'
                if found not in ('read', 'read, not CIPS', 'refused'):
                    failures.append(f'{i} {mutate.__name__}: {found}')
                    found = 'FAILED'
                    if keep:
                        (pathlib.Path(before, keep) / f'{i}.pt').write_bytes(path.read_bytes())
                rows[mutate.__name__, found] += 1
            growth = memory() - start
        finally:
            os.chdir(before)
    if growth > MEGABYTES:
        failures.append(f'the process grew by {growth:.0f} MB')
    return rows, failures, slowest, growth


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--count', type=int, default=6000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--keep', help='folder for the files that fail')
    parser.add_argument('--quick', action='store_true', help='240 files')
    arguments = parser.parse_args()
    count = 240 if arguments.quick else arguments.count
    rows, failures, slowest, growth = run(count, arguments.seed, arguments.keep)
    outcomes = ('read', 'read, not CIPS', 'refused', 'FAILED')
    print(f'{"mutation":16}' + ''.join(f'{name:>16}' for name in outcomes))
    for mutation in MUTATIONS:
        figures = (rows[mutation.__name__, name] for name in outcomes)
        print(f'{mutation.__name__:16}' + ''.join(f'{figure:16,}' for figure in figures))
    print(f'{count:,} files of seed {arguments.seed}, {len(failures)} failures; ', end='')
    print(f'slowest {1000 * slowest:.0f} ms, memory +{growth:.0f} MB')
    print('\n'.join(failures), end='')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
