"""Agents that share no code with nanorelay: Python processes answer their inboxes, `nanorelay serve` delivers.

Usage: agents.py NANORELAY DATA_DIR
"""
import json
import pathlib
import subprocess
import sys

import live

AGENT = live.REPOSITORY / "examples" / "agents" / "python_agent.py"
SESSIONS = [f"sess-{number}" for number in range(1, 6)]
MESSAGES_EACH = 20


def receive(data, session):
    """What a host does with messages of people: even seqs."""
    inbound = live.open_session(data, session, "inbound.db")
    for number in range(1, MESSAGES_EACH + 1):
        inbound.execute(
            "INSERT INTO messages_in (id, seq, kind, timestamp, series_id, channel_type, platform_id, content)"
            " VALUES (?1, (SELECT coalesce(max(seq), 0) / 2 * 2 + 2 FROM messages_in), 'chat', datetime('now'), ?1,"
            " 'chat', ?2, ?3)",
            (f"{session}-in-{number}", f"chat:{session}", json.dumps({"text": f"number {number}"})))
    inbound.close()


def count_in(data, table, condition):
    rows = (live.open_session(data, session, "inbound.db").execute(f"SELECT count(*) FROM {table} WHERE {condition}")
            for session in SESSIONS)
    return sum(row.fetchone()[0] for row in rows)


def main(program, data):
    live.make_data_dir(data, [(session, "chat", f"chat:{session}") for session in SESSIONS])
    lines = data / "deliveries.jsonl"
    (data / "nanorelay.toml").write_text('[channels."*"]\nkind = "jsonl"\npath = "deliveries.jsonl"\n')
    total = len(SESSIONS) * MESSAGES_EACH
    agents = []
    try:
        with live.Serve(program, data) as host:
            for session in SESSIONS:
                folder = live.session_folder(data, session)
                agents.append(subprocess.Popen([sys.executable, AGENT, folder, str(MESSAGES_EACH)]))
                receive(data, session)
            for agent in agents:
                assert agent.wait(live.DEADLINE_S) == 0
            live.wait_until("all answers delivered", lambda: lines.read_text().count("\n") >= total)
            live.wait_until("acknowledgements", lambda: count_in(data, "messages_in", "status = 'completed'") == total)
            live.wait_until("all receipts", lambda: count_in(data, "delivered", "status = 'delivered'") == total)
            live.wait_until("all states", lambda: [row["state"] for row in host.deliveries()] == ["delivered"] * total)
    finally:
        for agent in agents:
            agent.kill()
    delivered = [json.loads(line) for line in lines.read_text().splitlines()]
    for session in SESSIONS:
        own = [line for line in delivered if line["session_id"] == session]
        assert [line["id"] for line in own] == [f"re-{session}-in-{number}" for number in range(1, MESSAGES_EACH + 1)]
        assert [line["content"]["text"] for line in own][0] == "You said: number 1"
        assert all(line["seq"] % 2 == 1 for line in own)
    drained = subprocess.run([program, "drain", "--data", str(data), "--json"], stdout=subprocess.PIPE, check=True)
    assert set(json.loads(drained.stdout).values()) == {0}, drained.stdout
    live.check_databases(data)
    print(f"agents: {len(SESSIONS)} Python agents, {total} answers, each delivered once and in order")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
