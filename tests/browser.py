"""A headless Chromium, driven through its pipe by the DevTools protocol; standard library only."""

import base64
import json
import os
import select
import shutil
import subprocess

SECONDS = 120
NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
# Without these it looks for updates and accounts over the network.
FLAGS = (
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-quic',
    '--no-first-run', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--remote-debugging-pipe', '--window-size=1000,1400',
)  # fmt: skip


def find():
    """The program, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One page. `events` are those that came so far."""

    def __init__(self, profile):
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # The protocol's pipes are descriptors 3 and 4 of the browser.
        command = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ['bash', '-c', command, find(), *FLAGS, f'--user-data-dir={profile}'],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._count, self._rest, self._session, self.events = 0, b'', None, []
        target = self.send('Target.createTarget', url='about:blank')['targetId']
        attached = self.send('Target.attachToTarget', targetId=target, flatten=True)
        self._session = attached['sessionId']
        for domain in ('Runtime', 'Log', 'Network', 'Page'):
            self.send(f'{domain}.enable')

    def send(self, method, **params):
        """A command's result; events that come before it are kept."""
        self._count += 1
        message = {'id': self._count, 'method': method, 'params': params}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while (answer := self._next()).get('id') != self._count:
            self.events.append(answer)
        assert 'error' not in answer, answer['error']
        return answer['result']

    def open(self, address):
        """Loads a page, to its end."""
        self.send('Page.navigate', url=address)
        while not any(event.get('method') == 'Page.loadEventFired' for event in self.events):
            self.events.append(self._next())

    def value(self, expression):
        """What JavaScript makes of an expression."""
        found = self.send('Runtime.evaluate', expression=expression, returnByValue=True)
        assert 'exceptionDetails' not in found, found
        return found['result'].get('value')

    def press(self, key, code):
        """A key, down and up, where the focus is."""
        for kind in ('rawKeyDown', 'keyUp'):
            self.send('Input.dispatchKeyEvent', type=kind, key=key, windowsVirtualKeyCode=code)

    def screenshot(self):
        """PNG."""
        return base64.b64decode(self.send('Page.captureScreenshot')['data'])

    def errors(self):
        """Exceptions, errors that were logged, and requests that are not of the page itself."""
        found = []
        for event in self.events:
            method, params = event.get('method'), event.get('params', {})
            if method == 'Runtime.exceptionThrown':
                found.append(params['exceptionDetails'])
            elif method == 'Log.entryAdded' and params['entry']['level'] == 'error':
                found.append(params['entry'])
            elif method == 'Network.requestWillBeSent':
                url = params['request']['url']
                found += [] if url.startswith(('file:', 'data:')) else [url]
        return found

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def _next(self):
        while b'\0' not in self._rest:
            ready, _, _ = select.select([self._read], [], [], SECONDS)
            assert ready, f'the browser said nothing for {SECONDS} s'
            piece = os.read(self._read, 1 << 16)
            assert piece, 'the browser has ended'
            self._rest += piece
        text, _, self._rest = self._rest.partition(b'\0')
        return json.loads(text)
