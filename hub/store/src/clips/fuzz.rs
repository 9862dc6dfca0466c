//! Clip files that are damaged, or that another program made.

use fuzzing::{hold, nearly};
use proptest::prelude::*;

use super::codec::{ClipFormat, Content};
use super::story::{self, Story};
use crate::events::event::NewEvent;
use crate::testing::event;

/// Samples with silence, tones and noise, so that each kind of FLAC frame occurs.
fn audio(samples: usize) -> Vec<i16> {
    let noise = |n: usize| (n.wrapping_mul(2_654_435_761) >> 7) as i16;
    (0..samples).map(|n| [0, (n % 100) as i16, noise(n), noise(n) / 64][n / 300 % 4]).collect()
}

fn comments() -> Vec<String> {
    let found = event("http://kitchen:1", 16_000);
    let plain = NewEvent { features: None, kind: None, ..event("", 1) };
    [found, plain].iter().map(|event| story::write(event, None, 15_000, &audio(600))).collect()
}

#[test]
fn damaged_clip_is_read_within_its_bounds_or_refused() {
    for format in ClipFormat::ALL {
        let mut seeds = vec![format.encode(&audio(5_000), ""), format.encode(&[], "x"), format.encode(&[7; 40], "")];
        seeds.extend(comments().iter().map(|comment| format.encode(&audio(600), comment)));
        let words = ["LIST", "INFO", "ICMT", "data", "fmt ", "RIFF", "fLaC", "MEOWLINK=", "\u{4}\0\0\u{1}"];
        hold(1_000, &nearly(seeds, &words), |bytes| {
            for most in [0, 600, 5_000] {
                if let Some(read) = format.decode(&bytes, most) {
                    prop_assert!(read.samples.len() <= most);
                    prop_assert!(read.comment.len() <= bytes.len());
                    let _ = Story::read(&read.comment).is_some_and(|story| story.is_about(&read.samples));
                }
            }
            Ok(())
        });
    }
}

#[test]
fn any_clip_comes_back_as_it_was_written() {
    // Pieces of silence, of a constant, and of noise of any strength.
    let pieces = prop::collection::vec((0..3_000_usize, any::<i16>(), 0..17_u32), 0..5);
    hold(300, &(pieces, "[^\0]{0,99}"), |(pieces, comment)| {
        let piece = |(samples, first, shift): (usize, i16, u32)| {
            let noise = move |n: usize| ((n.wrapping_mul(2_654_435_761) >> 9) as i16).checked_shr(shift).unwrap_or(0);
            (0..samples).map(move |n| first.wrapping_add(noise(n)))
        };
        let samples: Vec<i16> = pieces.into_iter().flat_map(piece).collect();
        for format in ClipFormat::ALL {
            let read = format.decode(&format.encode(&samples, &comment), samples.len());
            prop_assert_eq!(read, Some(Content { samples: samples.clone(), comment: comment.clone() }));
        }
        Ok(())
    });
}

#[test]
fn what_a_clip_says_of_its_event_makes_sense_or_is_ignored() {
    let seeds = comments().into_iter().map(String::into_bytes).collect();
    let words = ["1e39", "-1", "18446744073709551615", "9223372036854775808", "null", "\"", "\\n", "{", "}", ","];
    hold(3_000, &nearly(seeds, &words), |bytes| {
        let Some(Story { event, clip_start_sample, .. }) = std::str::from_utf8(&bytes).ok().and_then(Story::read)
        else {
            return Ok(());
        };
        let most = i64::MAX.cast_unsigned();
        prop_assert!(event.start_sample < event.end_sample && event.end_sample <= most);
        prop_assert!(clip_start_sample <= most && event.started_monotonic_ns <= most);
        prop_assert!(event.started_at_ns <= event.ended_at_ns);
        prop_assert!((0.0..=1.0).contains(&event.score), "score {}", event.score);
        // JSON has no infinity: the API would say null.
        let numbers = serde_json::to_string(&(&event.context, &event.measurements)).unwrap();
        prop_assert!(!numbers.contains("null"), "{numbers}");
        for text in [&event.node, &event.cat, event.kind.as_ref().unwrap_or(&event.cat)] {
            prop_assert!(text.len() <= story::MAX_TEXT_BYTES && !text.contains('\n'), "{text:?}");
        }
        Ok(())
    });
}
