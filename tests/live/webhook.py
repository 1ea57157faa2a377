"""A webhook receiver that nanorelay has never seen: Python's `standardwebhooks` verifies every request.

The receiver asks to slow down, breaks and recovers; each message must arrive once, signed, with one id over all its
tries, in order, and never before a Retry-After is over.

Usage: webhook.py NANORELAY DATA_DIR        (needs the package `standardwebhooks`)
"""
import base64
import collections
import http.server
import json
import pathlib
import sys
import threading
import time

import live
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRET = "whsec_" + base64.b64encode(b"a secret of the live test, 32 b.").decode()
SESSIONS = ["sess-1", "sess-2", "sess-3"]
MESSAGES_EACH = 8
RETRY_AFTER_S = 1
# What the first tries of a message get: (status, Retry-After).
TROUBLE = {"sess-1-2": [(429, RETRY_AFTER_S)], "sess-2-1": [(503, None), (500, None)], "sess-3-4": [(503, RETRY_AFTER_S)]}


class Receiver(http.server.BaseHTTPRequestHandler):
    verifier = Webhook(SECRET)
    lock = threading.Lock()
    tries = collections.defaultdict(list)
    accepted = []
    unverified = []
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        arrived = time.monotonic()
        try:
            payload = self.verifier.verify(body, dict(self.headers.items()))
        except WebhookVerificationError as error:
            self.unverified.append(repr(error))
            return self.answer(400, {})
        try:
            self.verifier.verify(body.replace(b'"seq"', b'"sep"'), dict(self.headers.items()))
            self.unverified.append("a changed body was verified")
        except WebhookVerificationError:
            pass
        with self.lock:
            message = payload["id"]
            tries = self.tries[message]
            tries.append((arrived, self.headers["webhook-id"], payload["attempt"]))
            trouble = TROUBLE.get(message, [])
            if len(tries) <= len(trouble):
                status, retry_after = trouble[len(tries) - 1]
                headers = {"retry-after": str(retry_after)} if retry_after else {}
                return self.answer(status, headers)
            self.accepted.append(payload)
            self.answer(200, {}, json.dumps({"id": f"hook-{message}"}).encode())

    def answer(self, status, headers, body=b"{}"):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def write_messages(data, session):
    """What an agent with stock SQLite does: odd seqs, one commit each; the first message carries a file."""
    outbound = live.open_session(data, session, "outbound.db")
    for number in range(1, MESSAGES_EACH + 1):
        message, content = f"{session}-{number}", {"text": f"message {number} → 😀 \"quoted\""}
        if number == 1:
            folder = live.session_folder(data, session) / "outbox" / message
            folder.mkdir()
            (folder / "report.csv").write_bytes(b"a,b\n1,2\n")
            content["files"] = ["report.csv"]
        outbound.execute(
            "INSERT INTO messages_out (id, seq, timestamp, kind, channel_type, platform_id, content)"
            " VALUES (?, ?, datetime('now'), 'chat', 'hook', ?, ?)",
            (message, 2 * number - 1, f"hook:{session}", json.dumps(content, ensure_ascii=False)))
    outbound.close()


def check_received():
    assert not Receiver.unverified, Receiver.unverified
    expected = [f"{session}-{number}" for session in SESSIONS for number in range(1, MESSAGES_EACH + 1)]
    assert sorted(payload["id"] for payload in Receiver.accepted) == sorted(expected), "each message once"
    ids = set()
    for message, tries in Receiver.tries.items():
        assert len({webhook_id for _, webhook_id, _ in tries}) == 1, f"{message}: one id over all tries"
        assert [attempt for _, _, attempt in tries] == list(range(1, len(tries) + 1)), message
        assert len(tries) == len(TROUBLE.get(message, [])) + 1, message
        ids.add(tries[0][1])
        for (earlier, _, _), (later, _, _), (_, retry_after) in zip(tries, tries[1:], TROUBLE.get(message, [])):
            assert retry_after is None or later - earlier >= retry_after, f"{message} came before Retry-After"
    assert len(ids) == len(expected), "no two messages share an id"
    for session in SESSIONS:
        seqs = [payload["seq"] for payload in Receiver.accepted if payload["session_id"] == session]
        assert seqs == sorted(seqs), f"{session}: {seqs}"
        first = next(payload for payload in Receiver.accepted if payload["id"] == f"{session}-1")
        assert base64.b64decode(first["files"][0]["data"]) == b"a,b\n1,2\n"


def main(program, data):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    live.make_data_dir(data, [(session, "hook", f"hook:{session}") for session in SESSIONS])
    (data / "nanorelay.toml").write_text(
        f'[channels.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:{server.server_port}/in"\n'
        'secret = "env:LIVE_SECRET"\nallow_private = true\n[retry.transient]\nbase = "50ms"\n')
    total = len(SESSIONS) * MESSAGES_EACH
    with live.Serve(program, data, {"LIVE_SECRET": SECRET}) as host:
        for session in SESSIONS:
            write_messages(data, session)
        live.wait_until("all messages accepted", lambda: len(Receiver.accepted) >= total)

        def receipts():
            rows = [row for session in SESSIONS for row in live.open_session(data, session, "inbound.db").execute(
                "SELECT message_out_id, platform_message_id, status FROM delivered")]
            return rows if len(rows) == total else None
        for message, platform_id, status in live.wait_until("all receipts in inbound.db", receipts):
            assert (platform_id, status) == (f"hook-{message}", "delivered"), (message, platform_id, status)
        assert {row["state"] for row in host.deliveries()} == {"delivered"}
        assert SECRET not in "\n".join(host.log)
    server.shutdown()
    check_received()
    left = [path for session in SESSIONS for path in (live.session_folder(data, session) / "outbox").iterdir()]
    assert not left, left
    live.check_databases(data)
    tries = sum(len(tries) for tries in Receiver.tries.values())
    print(f"webhook: {total} messages, {tries} requests, all verified by standardwebhooks")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
