"""A headless Chromium, driven over the pipes of its DevTools protocol: no package is needed."""
import base64
import json
import os
import shutil
import subprocess
import tempfile

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
LOCAL = ('file:', 'data:', 'blob:', 'about:')


def chromium():
    """The path of a Chromium, or None."""
    return os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A page in the browser. What it complained of is in ``complaints``."""
    def __init__(self, url, size=(1320, 1000)):
        self.complaints, self._id, self._rest = [], 0, b''
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        read_in, self._write = os.pipe()
        self._read, write_out = os.pipe()

        # DevTools reads from descriptor 3 and writes to 4; wherever the pipes are, the shell puts them there.
        command = [chromium(), '--headless=new', '--remote-debugging-pipe', '--no-sandbox', '--no-first-run',
                   '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--hide-scrollbars',
                   f'--user-data-dir={self._folder.name}', f'--window-size={size[0]},{size[1]}', 'about:blank']
        self._process = subprocess.Popen(
            ['bash', '-c', f'exec "$@" 3<&{read_in} 4>&{write_out}', 'bash', *command], pass_fds=(read_in, write_out),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(read_in)
        os.close(write_out)
        self._session = None
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self._session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Runtime', 'Log', 'Page', 'Network'):
            self.call(f'{domain}.enable')
        self.call('Emulation.setDeviceMetricsOverride', width=size[0], height=size[1], deviceScaleFactor=1,
                  mobile=False)
        self.call('Page.navigate', url=url)
        self.evaluate('new Promise(done => document.readyState === "complete" ? done() : '
                      'addEventListener("load", done))')

    def call(self, method, **params):
        self._id += 1
        message = dict(id=self._id, method=method, params=params)
        if self._session:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._next()
            if answer.get('id') == self._id:
                assert 'error' not in answer, answer['error']
                return answer['result']
            self._note(answer)

    def _next(self):
        while b'\0' not in self._rest:
            more = os.read(self._read, 1 << 16)
            assert more, 'Chromium has ended'
            self._rest += more
        message, _, self._rest = self._rest.partition(b'\0')
        return json.loads(message)

    def _note(self, event):
        method, params = event.get('method'), event.get('params', {})
        if method == 'Runtime.exceptionThrown':
            details = params['exceptionDetails']
            self.complaints.append(details.get('exception', {}).get('description', details['text']))
        elif method == 'Runtime.consoleAPICalled' and params['type'] in ('error', 'assert'):
            self.complaints.append(str(params['args']))
        elif method == 'Log.entryAdded' and params['entry']['level'] == 'error':
            self.complaints.append(params['entry']['text'])
        elif method == 'Network.requestWillBeSent' and not params['request']['url'].startswith(LOCAL):
            self.complaints.append(f"asked for {params['request']['url']}")

    def evaluate(self, expression):
        result = self.call('Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True)
        assert 'exceptionDetails' not in result, result['exceptionDetails']
        return result['result'].get('value')

    def click(self, selector):
        """A click of the mouse on the middle of an element."""
        x, y = self.evaluate(f'''(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: "center"}}); const r = e.getBoundingClientRect();
            return [r.x + r.width / 2, r.y + r.height / 2] }})()''')
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def screenshot(self, whole=False):
        return base64.b64decode(self.call('Page.captureScreenshot', captureBeyondViewport=whole, **(dict(
            clip=dict(x=0, y=0, scale=1, **self.evaluate('({width: innerWidth, height: document.body.scrollHeight})')))
            if whole else {}))['data'])

    def close(self):
        self._process.terminate()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self._folder.cleanup()
