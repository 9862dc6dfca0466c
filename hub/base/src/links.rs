//! Paths of the gateway that lead to an event, for its own answers and for notices.

/// The page of an event.
pub fn event_page(id: i64) -> String {
    format!("/#/events/{id}")
}

/// The sound of an event.
pub fn clip(id: i64) -> String {
    format!("/api/v1/events/{id}/clip.wav")
}

/// The picture of an event's sound.
pub fn spectrogram(id: i64) -> String {
    format!("/api/v1/events/{id}/spectrogram.png")
}
