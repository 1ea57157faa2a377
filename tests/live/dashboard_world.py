"""What the dashboard is shown: a host with 20,000 sessions, a receiver that refuses at first, a task; and the demo."""
import http.server
import json
import re
import signal
import socket
import sqlite3
import subprocess
import threading

import live

BULK_SESSIONS = 20_000
SESSIONS = [("s-live", "hook", "hook:live"), ("s-dead", "hook", "hook:dead"), ("s-task", "hook", "hook:task")]
SECRET = "whsec_bmFub3JlbGF5LWRhc2hib2FyZC10ZXN0"


class Receiver:
    """Takes webhooks; refuses those whose text says so, until it is told to accept."""

    def __init__(self):
        owner = self
        self.refuses = True

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                is_refused = owner.refuses and "refuse" in body["content"].get("text", "")
                answer = b"{}"
                self.send_response(422 if is_refused else 200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}/"

    def accept(self):
        self.refuses = False

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class World:
    """The host with its data directory."""

    def __init__(self, program, data):
        self.program, self.data = program, data
        live.make_data_dir(data, SESSIONS)
        self._add_bulk_sessions()
        self.receiver = Receiver()
        # The same one after the host has come back.
        place = f"127.0.0.1:{free_port()}"
        self.environment, self.address = {"NANORELAY__SERVER__LISTEN": place}, f"http://{place}/"
        (data / "nanorelay.toml").write_text(
            f'[channels.hook]\nkind = "webhook"\nurl = "{self.receiver.address}"\n'
            f'secret = "{SECRET}"\nallow_private = true\n[channels.web]\nkind = "web"\n')
        made = subprocess.run(
            [program, "token", "create", "--name", "browser", "--scope", "admin", "--data", str(data)],
            stdout=subprocess.PIPE, text=True, check=True)
        self.token = made.stdout.strip()

    def _add_bulk_sessions(self):
        """Rows without folders: sessions that have never said anything."""
        central = sqlite3.connect(self.data / "v2.db", timeout=5)
        with central:
            central.executemany(
                "INSERT INTO sessions (id, agent_group_id, status, container_status, created_at)"
                " VALUES (?, 'ag', 'active', 'stopped', ?)",
                ((f"bulk-{number:05}", live.CREATED_AT) for number in range(BULK_SESSIONS)))
        central.close()

    def __enter__(self):
        self.host = live.Serve(self.program, self.data, self.environment)
        self.host.__enter__()
        for number in range(1, 4):
            self.say("s-dead", f"dead-{number}", "refuse this")
        self.write("s-task", "plan-1", "system", None, {
            "action": "schedule_task", "taskId": "digest", "prompt": "Write the digest.", "script": None,
            "processAfter": "2099-01-01T09:00:00Z", "recurrence": "0 9 * * *"})
        live.wait_until("three dead letters", lambda: self.states().count("dead") == 3)
        live.wait_until("the task", lambda: self.task_status("s-task") == "pending")
        return self

    def start_again(self):
        self.host = live.Serve(self.program, self.data, self.environment)
        self.host.__enter__()

    def states(self):
        return [row["state"] for row in self.host.deliveries()]

    def say(self, session, message, text):
        chat = {name: (channel, platform) for name, channel, platform in SESSIONS}[session]
        self.write(session, message, "chat", chat, {"text": text})

    def write(self, session, message, kind, chat, content):
        """As a container writes: the next odd seq above both tables."""
        outbound = live.open_session(self.data, session, "outbound.db")
        inbound = live.open_session(self.data, session, "inbound.db")
        highest = max(database.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchone()[0]
                      for database, table in [(outbound, "messages_out"), (inbound, "messages_in")])
        seq = highest + (1 if highest % 2 == 0 else 2)
        channel, platform = chat or (None, None)
        outbound.execute(
            "INSERT INTO messages_out (id, seq, timestamp, kind, channel_type, platform_id, content)"
            " VALUES (?, ?, datetime('now'), ?, ?, ?, ?)", (message, seq, kind, channel, platform, json.dumps(content)))
        outbound.close()
        inbound.close()

    def task_status(self, session):
        inbound = live.open_session(self.data, session, "inbound.db")
        found = inbound.execute("SELECT status FROM messages_in WHERE kind = 'task'").fetchone()
        inbound.close()
        return found[0] if found else None

    def __exit__(self, *failure):
        if self.host.process.poll() is None:
            self.host.__exit__(failure[0])
        self.receiver.close()


class Demo:
    """`nanorelay demo --forever`, which says where to chat."""

    def __init__(self, program, data):
        self.process = subprocess.Popen([program, "demo", "--forever", "--dir", str(data)], stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        watchdog = threading.Timer(live.DEADLINE_S, self.process.kill)
        watchdog.start()
        for line in self.process.stdout:
            if found := re.search(r"http://\S+/#/chat/\S+", line):
                self.chat_address = found.group()
                break
        else:
            raise AssertionError("the demo has not said where to chat")
        watchdog.cancel()
        # What it prints later must not fill the pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        return self

    def __exit__(self, failure, *_):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(live.DEADLINE_S)
        assert failure or code == 0, f"the demo ended with {code}"
