"""What the live tests share: a data directory made with stock SQLite, and the nanorelay program as a process."""
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = REPOSITORY / "tests" / "it" / "fixtures"
CREATED_AT = "2026-01-01T00:00:00.000Z"
DEADLINE_S = 60


def database(path, schema, journal_mode):
    connection = sqlite3.connect(path, timeout=5, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {journal_mode}")
    connection.executescript((FIXTURES / schema).read_text())
    return connection


def make_data_dir(data, sessions):
    """A data directory as NanoClaw makes it; `sessions` are (id, channel type, platform id)."""
    (data / "v2-sessions").mkdir(parents=True)
    central = database(data / "v2.db", "schema-central.sql", "WAL")
    central.execute("INSERT INTO agent_groups (id, name, folder, created_at) VALUES ('ag', 'ag', 'ag', ?)", (CREATED_AT,))
    for session, channel_type, platform_id in sessions:
        central.execute("INSERT INTO messaging_groups (id, channel_type, platform_id, created_at) VALUES (?, ?, ?, ?)",
                        (f"mg-{session}", channel_type, platform_id, CREATED_AT))
        central.execute("INSERT INTO sessions (id, agent_group_id, messaging_group_id, status, container_status, created_at)"
                        " VALUES (?, 'ag', ?, 'active', 'running', ?)", (session, f"mg-{session}", CREATED_AT))
        folder = session_folder(data, session)
        (folder / "outbox").mkdir(parents=True)
        database(folder / "inbound.db", "schema-inbound.sql", "DELETE").close()
        database(folder / "outbound.db", "schema-outbound.sql", "DELETE").close()
    central.close()


def session_folder(data, session):
    return data / "v2-sessions" / "ag" / session


def open_session(data, session, name):
    return sqlite3.connect(session_folder(data, session) / name, timeout=5, isolation_level=None)


def wait_until(what, condition):
    """Looks again and again until `condition` gives something."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE_S} s: {what}")


def check_databases(data):
    """Every file is sound, and no session file was left in WAL mode or with a journal."""
    for path in [data / "v2.db", data / "nanorelay.db", *sorted(data.glob("v2-sessions/*/*/*.db"))]:
        connection = sqlite3.connect(path, timeout=5)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), path
        if "v2-sessions" in path.parts:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",), path
        connection.close()
    leftovers = [str(path) for path in data.glob("v2-sessions/*/*/*.db-*")]
    assert not leftovers, leftovers


class Serve:
    """`nanorelay serve`, from its `ready` line to SIGTERM."""

    def __init__(self, program, data, environment=None):
        self.program, self.data = program, data
        self.log, self.ready = [], threading.Event()
        self.process = subprocess.Popen(
            [program, "serve", "--data", str(data), "--log-format", "json"], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "NANORELAY__SERVER__LISTEN": "127.0.0.1:0", **(environment or {})})
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            if json.loads(line).get("msg") == "ready":
                self.ready.set()

    def __enter__(self):
        if not self.ready.wait(DEADLINE_S):
            self.process.kill()
            raise AssertionError("not ready\n" + "\n".join(self.log))
        return self

    def deliveries(self):
        """Asked over the host's socket, while it runs."""
        listed = subprocess.run([self.program, "deliveries", "list", "--data", str(self.data), "--json"],
                                stdout=subprocess.PIPE, text=True, check=False)
        assert listed.returncode in (0, 3), listed
        return json.loads(listed.stdout or "[]")

    def __exit__(self, failure, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.reader.join(DEADLINE_S)
        if failure or code != 0:
            print("\n".join(self.log))
        assert failure or code == 0, f"serve ended with {code}"
