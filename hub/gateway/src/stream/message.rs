//! Messages of the update stream.

use axum::response::sse::Event as Message;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hub_listen::live::{LiveSpectrum, News};
use hub_store::events::NewGap;
use serde::Serialize;

use super::kinds::SPECTRUM;
use crate::events::EventAnswer;
use crate::level::LiveLevelAnswer;

#[derive(Serialize)]
struct SpectrumAnswer<'a> {
    node: &'a str,
    boot_id: String,
    first_sample: u64,
    columns: String,
}

impl<'a> From<&'a LiveSpectrum> for SpectrumAnswer<'a> {
    fn from(spectrum: &'a LiveSpectrum) -> Self {
        Self {
            node: &spectrum.node,
            boot_id: format!("{:016x}", spectrum.boot_id),
            first_sample: spectrum.first_sample,
            columns: STANDARD.encode(spectrum.columns.as_flattened()),
        }
    }
}

#[derive(Serialize)]
struct Lagged {
    lost: u64,
}

#[derive(Serialize)]
struct DeletedAnswer {
    id: i64,
}

#[derive(Serialize)]
struct ReevaluatedAnswer {
    events: usize,
}

#[derive(Serialize)]
struct RedatedAnswer<'a> {
    node: &'a str,
}

#[derive(Serialize)]
struct StateAnswer<'a> {
    node: &'a str,
    state: &'static str,
}

#[derive(Serialize)]
struct GapAnswer<'a> {
    node: &'a str,
    boot_id: String,
    first_sequence: u64,
    frame_count: Option<u64>,
    reason: &'static str,
    detail: &'a str,
}

/// The kind of a piece of news, and the URL of its node.
pub(super) fn kind_of(news: &News) -> (&'static str, Option<&str>) {
    match news {
        News::Event(event) => ("event", Some(&event.found.node)),
        News::Linked(event) => ("linked", Some(&event.found.node)),
        News::Labelled(event) => ("labelled", Some(&event.found.node)),
        News::Deleted { .. } => ("deleted", None),
        News::Reevaluated { .. } => ("reevaluated", None),
        News::Redated { node } => ("redated", Some(node)),
        News::Gap(gap) => ("gap", Some(&gap.node)),
        News::Level(level) => ("level", Some(&level.node)),
        News::State { node, .. } => ("state", Some(node)),
    }
}

/// The message for a piece of news.
pub(super) fn message_of(news: &News) -> Result<Message, axum::Error> {
    let message = Message::default().event(kind_of(news).0);
    match news {
        News::Event(event) => message.id(event.id.to_string()).json_data(EventAnswer::from(&**event)),
        News::Linked(event) | News::Labelled(event) => message.json_data(EventAnswer::from(&**event)),
        News::Deleted { id } => message.json_data(DeletedAnswer { id: *id }),
        News::Reevaluated { events } => message.json_data(ReevaluatedAnswer { events: *events }),
        News::Redated { node } => message.json_data(RedatedAnswer { node }),
        News::Gap(gap) => message.json_data(GapAnswer::from(gap)),
        News::Level(level) => message.json_data(LiveLevelAnswer::from(level)),
        News::State { node, state } => message.json_data(StateAnswer { node, state: state.as_str() }),
    }
}

impl<'a> From<&'a NewGap> for GapAnswer<'a> {
    fn from(gap: &'a NewGap) -> Self {
        Self {
            node: &gap.node,
            boot_id: format!("{:016x}", gap.boot_id),
            first_sequence: gap.first_sequence,
            frame_count: gap.frame_count,
            reason: gap.reason.as_str(),
            detail: &gap.detail,
        }
    }
}

/// The message for columns of a spectrum.
pub(super) fn spectrum_message(spectrum: &LiveSpectrum) -> Result<Message, axum::Error> {
    Message::default().event(SPECTRUM).json_data(SpectrumAnswer::from(spectrum))
}

/// The message for news that a slow client missed.
pub(super) fn lagged_message(lost: u64) -> Result<Message, axum::Error> {
    Message::default().event("lagged").json_data(Lagged { lost })
}
