//! Tests of what reads foreign bytes: files, messages, headers, announcements.
//!
//! Random bytes never get past a header. So each test makes valid inputs, the seeds, and [`nearly`] changes them in a
//! few places. [`hold`] passes such inputs to a property until it fails or enough of them have passed, and then prints
//! the smallest input that fails. Such an input becomes an ordinary test next to the code that was corrected.
//!
//! It is built on proptest, which runs on stable Rust and makes failing inputs smaller. It does not see which code an
//! input reaches, so good seeds matter.

use std::fmt::Debug;
use std::num::NonZeroU64;
use std::ops::Range;
use std::time::{Duration, Instant};

use proptest::prelude::{ProptestConfig, Strategy, any, prop};
use proptest::prop_oneof;
use proptest::test_runner::{TestCaseResult, TestRunner};

/// The variable that says for how many seconds each property is tested. Unset: for its usual number of inputs.
pub const SECONDS: &str = "FUZZ_SECONDS";

/// The variable that says with how many inputs each property is tested. It cannot be set together with [`SECONDS`].
pub const INPUTS: &str = "FUZZ_INPUTS";

/// Most changes of one input.
const MAX_CHANGES: usize = 8;

/// Longest piece that one change inserts, removes or repeats, in bytes.
const MAX_PIECE_BYTES: usize = 64;

/// Most times that a piece is repeated.
const MAX_REPEATS: usize = 50;

/// Most steps on the way from an input that fails to a smaller one.
const MAX_SHRINKS: u32 = 5_000;

/// Half of all changes fall into this many bytes at the start, where most formats have their header.
const HEADER_BYTES: u32 = 64;

/// Tests a property with `usual` inputs, or, if [`SECONDS`] is set, with rounds of `usual` inputs for that long, or, if
/// [`INPUTS`] is set, with that number of inputs. Prints how many inputs there were.
///
/// # Panics
/// If the property fails or panics; the message has the smallest input that does so. If a variable is not a number, or
/// both are set.
#[track_caller]
pub fn hold<S: Strategy>(usual: u32, inputs: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    let variable = |name| std::env::var(name).ok();
    let extent = Extent::of(usual, variable(SECONDS).as_deref(), variable(INPUTS).as_deref());
    report(hold_for(extent, usual, inputs, property));
}

/// How long a property is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Time(Duration),
    Inputs(u64),
}

impl Extent {
    /// The extent by the values of [`SECONDS`] and [`INPUTS`].
    #[track_caller]
    fn of(usual: u32, seconds: Option<&str>, inputs: Option<&str>) -> Self {
        match (seconds, inputs) {
            (None, None) => Self::Inputs(u64::from(usual)),
            (Some(seconds), None) => {
                Self::Time(Duration::from_secs(seconds.parse().expect("FUZZ_SECONDS is a number of seconds")))
            }
            (None, Some(inputs)) => {
                let inputs: NonZeroU64 = inputs.parse().expect("FUZZ_INPUTS is a number of inputs, at least 1");
                Self::Inputs(inputs.get())
            }
            (Some(_), Some(_)) => panic!("FUZZ_SECONDS and FUZZ_INPUTS are both set; set one of them"),
        }
    }
}

/// Tests a property in rounds of at most `round` inputs. Returns how many inputs there were.
#[track_caller]
fn hold_for<S: Strategy>(extent: Extent, round: u32, inputs: &S, property: impl Fn(S::Value) -> TestCaseResult) -> u64 {
    let began = Instant::now();
    let mut tested = 0;
    loop {
        let cases = match extent {
            Extent::Time(_) => round,
            Extent::Inputs(all) => u64::from(round).min(all - tested) as u32,
        };
        let config = ProptestConfig {
            cases,
            failure_persistence: None,
            max_shrink_iters: MAX_SHRINKS,
            ..ProptestConfig::default()
        };
        if let Err(failure) = TestRunner::new(config).run(inputs, &property) {
            panic!("{failure}");
        }
        tested += u64::from(cases);
        let is_enough = match extent {
            Extent::Time(time) => began.elapsed() >= time,
            Extent::Inputs(all) => tested >= all,
        };
        if is_enough {
            return tested;
        }
    }
}

/// Prints the name of the test, which is that of its thread, with the number of its inputs.
#[expect(clippy::print_stderr, reason = "cargo test shows it on request; make fuzz does")]
fn report(tested: u64) {
    let thread = std::thread::current();
    eprintln!("{}: {tested} inputs", thread.name().unwrap_or("unnamed"));
}

/// Inputs that are nearly valid: one of `seeds` with up to eight changes. `words`: pieces that mean something in the
/// format, which are inserted now and then.
///
/// # Panics
/// If there are no seeds.
pub fn nearly(seeds: Vec<Vec<u8>>, words: &[&str]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let donors = seeds.clone();
    let changes = prop::collection::vec(change(words, donors), 0..=MAX_CHANGES);
    (prop::sample::select(seeds), changes).prop_map(|(mut bytes, changes)| {
        for change in &changes {
            change.make(&mut bytes);
        }
        bytes
    })
}

/// As [`nearly`], for texts. Bytes that are not UTF-8 become replacement characters.
///
/// # Panics
/// If there are no seeds.
pub fn nearly_text(seeds: &[&str], words: &[&str]) -> impl Strategy<Value = String> + use<> {
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    nearly(seeds, words).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// One change of an input.
#[derive(Debug, Clone)]
enum Change {
    Flip {
        at: u32,
        bit: u8,
    },
    /// A number of 1, 2, 4 or 8 bytes is overwritten.
    Number {
        at: u32,
        bytes: usize,
        big_endian: bool,
        value: u64,
    },
    Insert {
        at: u32,
        piece: Vec<u8>,
    },
    Remove {
        at: u32,
        bytes: usize,
    },
    Repeat {
        at: u32,
        bytes: usize,
        times: usize,
    },
    Cut {
        at: u32,
    },
}

/// Numbers at which code tends to break.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

fn change(words: Vec<Vec<u8>>, donors: Vec<Vec<u8>>) -> impl Strategy<Value = Change> {
    let at = || prop_oneof![any::<u32>(), 0..HEADER_BYTES];
    let few = || 1..=MAX_PIECE_BYTES;
    let number = prop_oneof![prop::sample::select(NUMBERS.to_vec()), any::<u64>()];
    let sizes = prop::sample::select(vec![1_usize, 2, 4, 8]);
    let part = (prop::sample::select(donors), any::<u32>(), few())
        .prop_map(|(donor, at, bytes)| donor[range(&donor, at, bytes)].to_vec());
    let random = prop::collection::vec(any::<u8>(), few());
    let piece = if words.is_empty() {
        prop_oneof![part, random].boxed()
    } else {
        prop_oneof![part, random, prop::sample::select(words)].boxed()
    };
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip { at, bit }),
        (at(), sizes, any::<bool>(), number).prop_map(|(at, bytes, big_endian, value)| Change::Number {
            at,
            bytes,
            big_endian,
            value
        }),
        (at(), piece).prop_map(|(at, piece)| Change::Insert { at, piece }),
        (at(), few()).prop_map(|(at, bytes)| Change::Remove { at, bytes }),
        (at(), few(), 1..=MAX_REPEATS).prop_map(|(at, bytes, times)| Change::Repeat { at, bytes, times }),
        any::<u32>().prop_map(|at| Change::Cut { at }),
    ]
}

/// Up to `length` bytes from place `at`, counted round and round.
fn range(bytes: &[u8], at: u32, length: usize) -> Range<usize> {
    let from = at as usize % (bytes.len() + 1);
    from..bytes.len().min(from + length)
}

impl Change {
    fn make(&self, input: &mut Vec<u8>) {
        match self {
            Self::Flip { at, bit } => {
                let at = range(input, *at, 1).start;
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Number { at, bytes, big_endian, value } => {
                let place = range(input, *at, *bytes);
                let (big, little) = (value.to_be_bytes(), value.to_le_bytes());
                let number = if *big_endian { &big[8 - place.len()..] } else { &little[..place.len()] };
                input[place].copy_from_slice(number);
            }
            Self::Insert { at, piece } => {
                let at = range(input, *at, 0).start;
                input.splice(at..at, piece.iter().copied());
            }
            Self::Remove { at, bytes } => {
                input.drain(range(input, *at, *bytes));
            }
            Self::Repeat { at, bytes, times } => {
                let place = range(input, *at, *bytes);
                let piece = input[place.clone()].repeat(*times);
                input.splice(place.end..place.end, piece);
            }
            Self::Cut { at } => input.truncate(range(input, *at, 0).start),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prop_assert;

    use super::*;

    #[test]
    fn inputs_are_near_the_seeds_and_differ_from_them() {
        let seed = b"RIFF0000WAVE".repeat(20);
        let (equal, near, all) = (Cell::new(0), Cell::new(0), Cell::new(0));
        hold(500, &nearly(vec![seed.clone()], &["LIST"]), |input| {
            let most = seed.len() + MAX_CHANGES * MAX_PIECE_BYTES * MAX_REPEATS;
            prop_assert!(input.len() <= most);
            all.set(all.get() + 1);
            equal.set(equal.get() + u32::from(input == seed));
            near.set(near.get() + u32::from(input.starts_with(b"RIFF")));
            Ok(())
        });
        assert!(equal.get() > 0 && equal.get() < all.get() / 2, "{} of {} unchanged", equal.get(), all.get());
        assert!(near.get() > all.get() / 4, "{} of {} keep their start", near.get(), all.get());
    }

    #[test]
    fn extent_is_the_usual_one_a_time_or_a_number() {
        assert_eq!(Extent::of(50, None, None), Extent::Inputs(50));
        assert_eq!(Extent::of(50, Some("60"), None), Extent::Time(Duration::from_secs(60)));
        assert_eq!(Extent::of(50, None, Some("20000")), Extent::Inputs(20_000));
        for (seconds, inputs) in
            [(Some("60"), Some("20000")), (Some("long"), None), (None, Some("-1")), (None, Some("0"))]
        {
            assert!(std::panic::catch_unwind(|| Extent::of(50, seconds, inputs)).is_err(), "{seconds:?}, {inputs:?}");
        }
    }

    #[test]
    fn number_of_inputs_is_kept_to_exactly() {
        for all in [1, 7, 30, 61] {
            let seen = Cell::new(0);
            let tested = hold_for(Extent::Inputs(all), 30, &nearly(vec![vec![0; 9]], &[]), |_| {
                seen.set(seen.get() + 1);
                Ok(())
            });
            assert_eq!((tested, seen.get()), (all, all));
        }
    }

    #[test]
    fn whole_rounds_go_on_until_the_time_is_up() {
        let time = Duration::from_millis(20);
        let began = Instant::now();
        let tested = hold_for(Extent::Time(time), 30, &nearly(vec![vec![0; 9]], &[]), |_| Ok(()));
        assert!(began.elapsed() >= time && tested >= 30 && tested.is_multiple_of(30), "{tested} inputs");
    }

    #[test]
    fn failure_names_the_smallest_input() {
        let failing = std::panic::catch_unwind(|| {
            hold(500, &nearly(vec![vec![0; 100]], &[]), |input| {
                prop_assert!(input.len() <= 40);
                Ok(())
            });
        });
        let text = *failing.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("minimal failing input") && text.contains("input.len() <= 40"), "{text}");
    }

    #[test]
    fn panic_of_the_code_is_a_failure() {
        let failing = std::panic::catch_unwind(|| {
            hold(500, &nearly(vec![vec![7; 9]], &[]), |input| {
                assert!(input.len() > 3, "the code panicked");
                Ok(())
            });
        });
        assert!(failing.unwrap_err().downcast::<String>().unwrap().contains("the code panicked"));
    }
}
