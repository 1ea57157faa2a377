"""Agents that share no code with nanorelay: Python processes answer what `nanorelay sessions send` writes, and are
killed meanwhile; `nanorelay serve` delivers.

Usage: agents.py NANORELAY DATA_DIR
"""
import json
import pathlib
import subprocess
import sys

import live

AGENT = live.REPOSITORY / "examples" / "agent.py"
CHATS = [f"chat:{number}" for number in range(1, 6)]
MESSAGES_EACH = 20
# An agent that is killed so often answers each message once all the same.
KILLS = 3


def nanorelay(program, data, *arguments):
    command = [program, *arguments, "--data", str(data), "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def create(program, data, chat):
    ready = nanorelay(program, data, "sessions", "create", "--agent-group", "ag", "--chat", "chat", chat, "--add-chat")
    assert ready["is_new"], ready
    return ready["session_id"]


def send(program, data, session, number, report):
    attached = ["--attach", str(report)] if number == 1 else []
    sent = nanorelay(program, data, "sessions", "send", session, f"number {number}", "--id", f"in-{number}", *attached)
    assert sent == {"message_id": f"in-{number}", "seq": sent["seq"], "is_new": True} and sent["seq"] % 2 == 0, sent


def count_in(data, sessions, table, condition):
    rows = (live.open_session(data, session, "inbound.db").execute(f"SELECT count(*) FROM {table} WHERE {condition}")
            for session in sessions)
    return sum(row.fetchone()[0] for row in rows)


def start_agent(data, session, *arguments):
    return subprocess.Popen([sys.executable, AGENT, live.session_folder(data, session), *arguments])


def main(program, data):
    live.make_data_dir(data, [])
    report = data / "report.txt"
    report.write_text("all green")
    lines = data / "deliveries.jsonl"
    (data / "nanorelay.toml").write_text('[channels."*"]\nkind = "jsonl"\npath = "deliveries.jsonl"\n')
    # One session is made and written to without a host.
    sessions = [create(program, data, CHATS[0])]
    send(program, data, sessions[0], 1, report)
    total = len(CHATS) * MESSAGES_EACH
    agents = {}
    try:
        with live.Serve(program, data) as host:
            sessions += [create(program, data, chat) for chat in CHATS[1:]]
            agents = {session: start_agent(data, session) for session in sessions}
            for number in range(1, MESSAGES_EACH + 1):
                for session in sessions:
                    if (session, number) != (sessions[0], 1):
                        send(program, data, session, number, report)
                if number <= KILLS:
                    agents[sessions[0]].kill()
                    agents[sessions[0]].wait()
                    agents[sessions[0]] = start_agent(data, sessions[0])
            live.wait_until("all answers delivered", lambda: lines.read_text().count("\n") >= total)
            completed = lambda: count_in(data, sessions, "messages_in", "status = 'completed'")
            live.wait_until("acknowledgements", lambda: completed() == total)
            delivered = lambda: count_in(data, sessions, "delivered", "status = 'delivered'")
            live.wait_until("all receipts", lambda: delivered() == total)
            live.wait_until("all states", lambda: [row["state"] for row in host.deliveries()] == ["delivered"] * total)
    finally:
        for agent in agents.values():
            agent.kill()
            agent.wait()
    assert start_agent(data, sessions[1], "0.5").wait(live.DEADLINE_S) == 0, "an agent with nothing to do ends"
    delivered = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(delivered) == total
    for session in sessions:
        own = [line for line in delivered if line["session_id"] == session]
        assert [line["id"] for line in own] == [f"re-in-{number}" for number in range(1, MESSAGES_EACH + 1)]
        assert own[0]["content"]["text"] == "You said: number 1 (inbox/in-1/report.txt)"
        assert (live.session_folder(data, session) / "inbox/in-1/report.txt").read_text() == "all green"
        assert all(line["seq"] % 2 == 1 for line in own)
    drained = subprocess.run([program, "drain", "--data", str(data), "--json"], stdout=subprocess.PIPE, check=True)
    assert set(json.loads(drained.stdout).values()) == {0}, drained.stdout
    live.check_databases(data)
    print(f"agents: {len(sessions)} Python agents, {total} answers, each delivered once and in order,"
          f" one agent killed {KILLS} times")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
