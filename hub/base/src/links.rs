//! Paths of the gateway that lead to events. The API and notifications use them.

/// The page of an event.
pub fn event_page(id: i64) -> String {
    format!("/#/events/{id}")
}

/// The clip of an event.
pub fn clip(id: i64) -> String {
    format!("/api/v1/events/{id}/clip.wav")
}

/// Where a re-evaluation is undone.
pub fn undo(reevaluation: i64) -> String {
    format!("/api/v1/reevaluations/{reevaluation}/undo")
}

/// The spectrogram of an event's clip.
pub fn spectrogram(id: i64) -> String {
    format!("/api/v1/events/{id}/spectrogram.png")
}
