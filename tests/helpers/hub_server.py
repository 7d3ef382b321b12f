r"""A stand-in for the Hugging Face hub on loopback: repositories, commits, branches and files, kept in memory."""
import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Hub:
    r"""What the server holds: commits of each repository, by their number or their branch; and what it was asked."""
    def __init__(self):
        self.commits, self.branches, self.requests, self.page = {}, {}, [], None

    def commit(self, repo, branch, files):
        known = self.files(repo, branch) or {}
        files = {**known, **files}
        number = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[repo, number] = files
        self.branches[repo, branch] = number
        return number

    def number(self, repo, revision):
        return self.branches.get((repo, revision), revision)

    def files(self, repo, revision):
        return self.commits.get((repo, self.number(repo, revision)))


@contextmanager
def hub_server():
    r"""The hub, and its address."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def answer(self, body=b'', status=200, **headers):
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            headers = {'Content-Type': 'application/json', 'Content-Length': str(len(body)), **headers}
            for name, value in headers.items():
                self.send_header(name.replace('_', '-'), value)
            self.end_headers()
            if self.command != 'HEAD':
                self.wfile.write(body)

        def missing(self, code):
            self.answer(dict(error='not here'), 404, X_Error_Code=code)

        def do_GET(self):
            hub.requests.append((self.command, self.path))
            if hub.page is not None:
                return self.answer(hub.page, 200, **{'Content-Type': 'text/html'})
            if asked := re.fullmatch(r'/api/models/([^/]+/[^/]+)(/revision/([^?]+))?(\?.*)?', self.path):
                repo, revision = asked[1], asked[3] or 'main'
                files = hub.files(repo, revision)
                if files is None:
                    known = any(name == repo for name, _ in hub.branches)
                    return self.missing('RevisionNotFound' if known else 'RepoNotFound')
                return self.answer(dict(id=repo, sha=hub.number(repo, revision), private=False, tags=[], downloads=0,
                                        likes=0, siblings=[dict(rfilename=name) for name in files]))
            if asked := re.fullmatch(r'/api/models/([^/]+/[^/]+)/tree/([^?]+)(\?.*)?', self.path):
                files = hub.files(asked[1], asked[2]) or {}
                return self.answer([dict(type='file', path=name, size=len(content),
                                         oid=hashlib.sha1(content).hexdigest()) for name, content in files.items()])
            if asked := re.fullmatch(r'/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)(\?.*)?', self.path):
                content = (hub.files(asked[1], asked[2]) or {}).get(asked[3])
                if content is None:
                    return self.missing('EntryNotFound')
                return self.answer(content, ETag=f'"{hashlib.sha256(content).hexdigest()}"',
                                   X_Repo_Commit=hub.number(asked[1], asked[2]))
            return self.missing('EntryNotFound')

        do_HEAD = do_GET

        def do_POST(self):
            hub.requests.append((self.command, self.path))
            if 'chunked' in self.headers.get('Transfer-Encoding', ''):
                body = b''
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
            if hub.page is not None:
                return self.answer(hub.page, 200, **{'Content-Type': 'text/html'})
            if self.path == '/api/repos/create':
                asked = json.loads(body)
                repo = f"{asked['organization']}/{asked['name']}" if asked.get('organization') else asked['name']
                if (repo, 'main') not in hub.branches:
                    hub.commit(repo, 'main', {'.gitattributes': b''})
                return self.answer(dict(url=f'http://127.0.0.1/{repo}', name=repo))
            if self.path == '/api/validate-yaml':
                return self.answer(dict(errors=[], warnings=[]))
            if asked := re.fullmatch(r'/api/models/([^/]+/[^/]+)/branch/(.+)', self.path):
                hub.commit(asked[1], asked[2], hub.files(asked[1], 'main'))
                return self.answer({})
            if asked := re.fullmatch(r'/api/models/[^/]+/[^/]+/preupload/.+', self.path):
                return self.answer(dict(files=[dict(path=one['path'], uploadMode='regular', shouldIgnore=False)
                                               for one in json.loads(body)['files']]))
            if asked := re.fullmatch(r'/api/models/([^/]+/[^/]+)/commit/([^?]+)(\?.*)?', self.path):
                lines = [json.loads(line) for line in body.splitlines()]
                new = {line['value']['path']: base64.b64decode(line['value']['content']) for line in lines
                       if line['key'] == 'file'}
                number = hub.commit(asked[1], asked[2], new)
                return self.answer(dict(success=True, commitOid=number,
                                        commitUrl=f'http://127.0.0.1/{asked[1]}/commit/{number}'))
            return self.missing('EntryNotFound')

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()
