//! Progress of an application on a terminal: a line per statement, a bar per stage.
//!
//! Nothing is drawn when stderr is no terminal or `--quiet` was given. Bars go away when their job
//! ends, so what stays on the screen is answers and messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drumline_client::proto::{JobPlanned, StagePlanned, TaskChanged, TaskState};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal::Terminal;

const TICK: Duration = Duration::from_millis(100);
/// Characters of a statement shown beside its spinner.
const STATEMENT_WIDTH: usize = 60;

/// The bars of the running job.
pub(crate) struct Progress {
    bars: MultiProgress,
    drawn: bool,
    color: bool,
    statement: Option<ProgressBar>,
    stages: BTreeMap<u32, Stage>,
}

struct Stage {
    bar: ProgressBar,
    tasks: TaskCount,
}

/// Tasks of one stage that have ended, each counted once however often it reports.
#[derive(Default)]
struct TaskCount {
    ended: BTreeSet<u32>,
}

impl TaskCount {
    fn observe(&mut self, task: u32, state: TaskState) -> u64 {
        match state {
            TaskState::Finished => {
                self.ended.insert(task);
            }
            TaskState::Failed | TaskState::Running => {
                self.ended.remove(&task);
            }
            TaskState::Unspecified => {}
        }
        self.ended.len() as u64
    }
}

impl Progress {
    pub(crate) fn new(terminal: Terminal) -> Self {
        let target = if terminal.bars() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            drawn: terminal.bars(),
            color: terminal.color(),
            statement: None,
            stages: BTreeMap::new(),
        }
    }

    pub(crate) fn statement_started(&mut self, sql: &str) {
        self.clear();
        if !self.drawn {
            return;
        }
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(style("{spinner} {wide_msg} {elapsed}"));
        bar.set_message(one_line(sql));
        bar.enable_steady_tick(TICK);
        self.statement = Some(bar);
    }

    /// A new attempt replaces the bars of the one before.
    pub(crate) fn job_planned(&mut self, job: &JobPlanned) {
        self.clear_stages();
        if !self.drawn {
            return;
        }
        for stage in &job.stages {
            let bar = self.bars.add(ProgressBar::new(u64::from(stage.tasks)));
            let template = if self.color {
                "  {prefix:<10} [{bar:24.cyan/blue}] {pos}/{len} tasks  {wide_msg:.dim}"
            } else {
                "  {prefix:<10} [{bar:24}] {pos}/{len} tasks  {wide_msg}"
            };
            bar.set_style(style(template).progress_chars("=> "));
            bar.set_prefix(format!("stage {}", stage.stage));
            bar.set_message(on_workers(stage));
            bar.tick();
            self.stages.insert(
                stage.stage,
                Stage {
                    bar,
                    tasks: TaskCount::default(),
                },
            );
        }
    }

    pub(crate) fn task_changed(&mut self, task: &TaskChanged) {
        if let Some(stage) = self.stages.get_mut(&task.stage) {
            stage
                .bar
                .set_position(stage.tasks.observe(task.task, task.state()));
        }
    }

    /// A message for people that must not be drawn over.
    pub(crate) fn say(&self, terminal: Terminal, line: &str) {
        self.bars.suspend(|| terminal.say(line));
    }

    /// Takes everything off the screen.
    pub(crate) fn clear(&mut self) {
        self.clear_stages();
        if let Some(bar) = self.statement.take() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn clear_stages(&mut self) {
        for stage in std::mem::take(&mut self.stages).into_values() {
            stage.bar.finish_and_clear();
            self.bars.remove(&stage.bar);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn on_workers(stage: &StagePlanned) -> String {
    let workers: BTreeSet<&str> = stage.workers.iter().map(String::as_str).collect();
    match workers.len() {
        0 => String::new(),
        1 => "on 1 worker".to_owned(),
        many => format!("on {many} workers"),
    }
}

/// A statement on one line, shortened.
pub(crate) fn one_line(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= STATEMENT_WIDTH {
        return line;
    }
    line.chars()
        .take(STATEMENT_WIDTH - 1)
        .chain(['…'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_reports_twice_counts_once() {
        let mut tasks = TaskCount::default();
        assert_eq!(tasks.observe(0, TaskState::Finished), 1);
        assert_eq!(tasks.observe(0, TaskState::Finished), 1);
        assert_eq!(tasks.observe(1, TaskState::Finished), 2);
    }

    #[test]
    fn a_task_that_fails_is_not_done() {
        let mut tasks = TaskCount::default();
        tasks.observe(0, TaskState::Finished);
        assert_eq!(tasks.observe(0, TaskState::Failed), 0);
    }

    #[test]
    fn a_statement_is_shown_on_one_short_line() {
        assert_eq!(one_line("SELECT 1\n  FROM t"), "SELECT 1 FROM t");
        assert_eq!(one_line(&"x".repeat(200)).chars().count(), STATEMENT_WIDTH);
    }
}
