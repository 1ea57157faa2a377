//! `nanorelay questions`: what agents ask, and answers.

use super::output::OutputArgs;
use super::place::{ChangePlaceArgs, Host, PlaceArgs, limits, matched, unreachable};
use super::table::columns;
use super::{Exit, Failure};
use clap::Subcommand;
use nanorelay_actors::inbox::Enqueued;
use nanorelay_actors::relay::{Answer, QuestionList, QuestionRecord};
use std::io::Write as _;
use std::path::Path;

/// What can be done with questions.
#[derive(Debug, Subcommand)]
pub(super) enum QuestionsCommand {
    /// List the questions that wait for an answer
    List {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Answer a question
    Answer {
        /// The question's id
        question: String,
        /// The value of the chosen option
        option: String,
        /// Who has chosen, for the agent
        #[arg(long, value_name = "ID", default_value = "operator")]
        user: String,
        #[command(flatten)]
        place: ChangePlaceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

impl Host {
    fn questions(&self) -> Result<QuestionList, Failure> {
        match self {
            Self::Running(client) => client.questions().map_err(unreachable),
            Self::Stopped(host) => Ok(host.questions()?),
        }
    }

    fn answer(&self, answer: &Answer, data: &Path) -> Result<Enqueued, Failure> {
        match self {
            Self::Running(client) => client.answer(answer).map_err(unreachable),
            Self::Stopped(host) => {
                let limits = limits(data)?;
                host.noted("question.answer", &answer.question_id, |host| {
                    host.answer(answer, &limits).map_err(|problem| Failure::Failed(problem.to_string()))
                })
            }
        }
    }
}

/// Lists or answers; 3 when there is nothing to list.
pub(super) fn run(command: QuestionsCommand) -> Result<Exit, Failure> {
    match command {
        QuestionsCommand::List { place, output } => {
            let QuestionList { questions: records, left_out } = Host::open(&place.data)?.questions()?;
            if left_out > 0 {
                // Without standard error there is nowhere to say it.
                let _ = writeln!(
                    std::io::stderr(),
                    "nanorelay: {left_out} later questions are left out: answer some of these first"
                );
            }
            output.list(&records, table)?;
            Ok(matched(records.len() as u64))
        }
        QuestionsCommand::Answer { question, option, user, place, output } => {
            let answer = Answer { question_id: question, selected_option: option, user_id: user };
            let enqueued = place.open()?.answer(&answer, &place.place.data)?;
            let words = if enqueued.is_new { "answered\n" } else { "was answered before\n" };
            output.object(&enqueued, || words.to_owned())?;
            Ok(Exit::Done)
        }
    }
}

fn table(records: &[QuestionRecord]) -> String {
    let row = |record: &QuestionRecord| {
        let chat = [&record.channel_type, &record.platform_id].map(|part| part.clone().unwrap_or_default());
        [
            record.question_id.clone(),
            record.session_id.clone(),
            chat.join(" "),
            record.asked_at.clone(),
            record.options.join(", "),
            record.title.clone(),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    columns(["QUESTION", "SESSION", "CHAT", "ASKED", "OPTIONS", "TITLE"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_asks_is_escaped() {
        let record = QuestionRecord {
            question_id: "q-1".to_owned(),
            session_id: "s-1".to_owned(),
            message_id: "m-1".to_owned(),
            title: "Deploy?\x1b[2J".to_owned(),
            options: vec!["Yes".to_owned(), "No".to_owned()],
            channel_type: None,
            platform_id: None,
            asked_at: "2026-04-16T14:37:00Z".to_owned(),
        };
        let table = table(&[record]);
        assert!(table.contains("Yes, No") && !table.contains('\x1b'), "{table}");
    }
}
