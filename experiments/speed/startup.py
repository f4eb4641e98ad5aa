"""Seconds from launch to the first line on the screen and to the first step of the smoke run.

    python experiments/speed/startup.py [--json] [--quick]

Runs the real command in a new process. 'other' is the aim: 5 s and 30 s.
"""

import os
import subprocess
import sys
import tempfile
import time

import timing


def launch(folder: str, *fields: str) -> tuple[float, float]:
    """Seconds to the first line and to the line of the first step; `fields`: other than smoke's."""
    command = [
        sys.executable, '-m', 'jaxgen.train',
        f'--config={timing.ROOT}/configs/cips.py:smoke', f'--workdir={folder}',
        '--config.log_every=1', *fields,
    ]  # fmt: skip
    began, first, lines = time.perf_counter(), None, []
    environment = {**os.environ, 'PYTHONUNBUFFERED': '1'}
    with subprocess.Popen(
        command,
        cwd=timing.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            now = time.perf_counter() - began
            lines.append(line)
            first = now if first is None else first
            if line.startswith('step 1/'):
                # Seen what we came for: what follows would only take time.
                process.kill()
                return first, now
    raise RuntimeError('the run ended before its first step:\n' + ''.join(lines))


def main() -> None:
    """Measures and prints."""
    options = timing.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # R1 takes half of the compilation.
        fields = ['--config.loss.r1_every=0'] if options.quick else []
        first, step = launch(folder, *fields)
    rows = [
        {'measured': what, 'jaxgen': seconds, 'other': aim, 'ratio': aim / seconds}
        for what, seconds, aim in (
            ('launch to first line, s', first, 5.0),
            ('launch to first step of the smoke run, s', step, 30.0),
        )
    ]
    timing.report(rows, options.json)


if __name__ == '__main__':
    main()
