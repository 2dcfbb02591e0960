//! How progress is shown: bars on a terminal, plain lines elsewhere, JSON lines for programs.

use std::{
    io::{IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use undoo_core::{Finding, Kind, Problem, Severity};
use undoo_engine::order::{Answer, Audience, Failure, Phase};

/// An audience for a person or a program.
pub enum Ui {
    /// JSON lines on standard output.
    Json,
    /// Bars on standard error.
    Terminal(Mutex<Option<(Phase, ProgressBar)>>),
    /// A line for each phase on standard error.
    Plain(Mutex<Option<Phase>>),
}

impl Ui {
    /// JSON if asked for, bars on a terminal, lines otherwise.
    pub fn new(json: bool) -> Self {
        if json {
            Self::Json
        } else if std::io::stderr().is_terminal() {
            Self::Terminal(Mutex::new(None))
        } else {
            Self::Plain(Mutex::new(None))
        }
    }

    /// Whether a program reads the output.
    pub fn is_json(&self) -> bool {
        matches!(self, Self::Json)
    }

    /// A sentence for the person.
    pub fn say(&self, line: &str) {
        match self {
            Self::Json => self.tell(Answer::Log { message: line.to_owned() }),
            Self::Terminal(bar) => {
                let bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
                match bar.as_ref() {
                    Some((_, bar)) => bar.suspend(|| complain(line)),
                    None => complain(line),
                }
            }
            Self::Plain(_) => complain(line),
        }
    }

    /// The last line for a program: that it is done, and with what.
    ///
    /// # Errors
    /// `Internal` when it cannot be written as JSON.
    pub fn done(&self, result: &impl serde::Serialize) -> Result<(), Failure> {
        let result = serde_json::to_value(result).map_err(|error| {
            Problem::new(Kind::Internal, "answer", "an answer could not be written", "please report this")
                .caused_by(error)
        })?;
        self.tell(Answer::Done { result });
        Ok(())
    }

    /// Ends the bar that is shown.
    pub fn settle(&self) {
        if let Self::Terminal(bar) = self
            && let Some((_, bar)) = bar.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            bar.finish_and_clear();
        }
    }

    fn phase(&self, next: Phase) {
        match self {
            Self::Json => {}
            Self::Terminal(bar) => {
                let mut shown = bar.lock().unwrap_or_else(PoisonError::into_inner);
                if shown.as_ref().is_some_and(|(phase, _)| *phase == next) {
                    return;
                }
                if let Some((_, bar)) = shown.take() {
                    bar.finish();
                    complain("");
                }
                let bar = ProgressBar::new_spinner().with_message(title(next));
                bar.enable_steady_tick(Duration::from_millis(120));
                *shown = Some((next, bar));
            }
            Self::Plain(last) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if *last != Some(next) {
                    *last = Some(next);
                    complain(title(next));
                }
            }
        }
    }

    fn progress(&self, phase: Phase, done: u64, total: Option<u64>, unit: &str) {
        let Self::Terminal(bar) = self else { return };
        let shown = bar.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, bar)) = shown.as_ref().filter(|(shown, _)| *shown == phase) else { return };
        if total.is_none() && unit == "bytes" {
            bar.set_message(format!("{} {}", title(phase), HumanBytes(done)));
            return;
        }
        if let (Some(total), None) = (total, bar.length()) {
            bar.set_length(total);
            let template = if unit == "bytes" {
                "{msg:28} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left"
            } else {
                "{msg:28} [{bar:30}] {pos}/{len} {eta} left"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
        }
        bar.set_position(done);
    }
}

impl Audience for Ui {
    fn tell(&self, answer: Answer) {
        match (self, answer) {
            (Self::Json, answer) => {
                if let Ok(line) = serde_json::to_string(&answer) {
                    let mut out = std::io::stdout().lock();
                    // Nobody reads any more: the work goes on all the same.
                    let _ = writeln!(out, "{line}");
                    let _ = out.flush();
                }
            }
            (_, Answer::Phase { phase }) => self.phase(phase),
            (_, Answer::Progress { phase, done, total, unit }) => self.progress(phase, done, total, &unit),
            (_, Answer::Log { message }) => self.say(&message),
            (_, Answer::Finding(finding)) => self.say(&finding_lines(&finding)),
            (_, Answer::Done { .. } | Answer::Failed { .. }) => self.settle(),
        }
    }
}

/// A line on standard error, if anybody is there: work must not break down because its terminal is gone.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn title(phase: Phase) -> &'static str {
    match phase {
        Phase::Inspect => "Reading what the backup is",
        Phase::Preflight => "Asking the target",
        Phase::Prepare => "Preparing the staged pair",
        Phase::Data => "Loading rows and files",
        Phase::PostData => "Building indexes and keys",
        Phase::Filestore => "Placing files",
        Phase::Verify => "Counting and matching",
        Phase::Boot => "Booting Odoo on a clone",
        Phase::Neutralize => "Neutralizing the copy",
        Phase::Cutover => "Cutting over",
        Phase::HealthCheck => "Waiting for Odoo",
        Phase::Snapshot => "Linking the files",
        Phase::Dump => "Dumping the database",
        Phase::Store => "Writing the files",
        Phase::ReadBack => "Reading the backup back",
    }
}

/// A finding for a person: what, and what to do.
pub fn finding_lines(finding: &Finding) -> String {
    let mark = match finding.severity {
        Severity::Info => "note",
        Severity::Warning => "warning",
        Severity::Error => "stop",
    };
    format!("  {mark:8} {} [{}]\n           {}", finding.message, finding.code, finding.remedy)
}
