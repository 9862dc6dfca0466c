//! Analyses recordings for the evaluation in `training/`: reads them from standard input and writes a line of JSON for
//! each to standard output.
//!
//! The input has for each recording the number of samples (u32) and then the samples of canonical audio (i16), all
//! little-endian. The output has for each recording
//!
//! ```json
//! {"cat_score":0.9,"logits":[],"events":[{"start_sample":0,"end_sample":1,"score":0.9,"kind":"Meow","embedding":[],
//!   "prosody":[],"context":{},"clip":[0,1]}]}
//! ```
//!
//! with one event for each vocalisation. `clip` is the range of samples (the end not included) that the speech gate
//! leaves of the vocalisation with half a second before and after it, or null if it leaves nothing.
//!
//! `--weights FILE` uses another network than the shipped one. `--min-score X` lists vocalisations down to that score.
//! `--steps` adds the embedding of each step.

use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};

use serde_json::json;
use sound::analysis::{Analyzer, Vocalisation};
use sound::detector::DetectorConfig;
use sound::logmel::{LogMel, WINDOW_SAMPLES};
use sound::model::{Hearing, Model};
use sound::speech::without_speech;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1);
    let mut config = DetectorConfig::default();
    if let Some(score) = after("--min-score") {
        config.min_score = score.parse().map_err(io::Error::other)?;
        config.on_probability = config.on_probability.min(config.min_score);
        config.off_probability = config.off_probability.min(config.min_score / 2.0);
    }
    let model: &'static Model = match after("--weights") {
        Some(path) => Box::leak(Box::new(Model::from_bytes(&std::fs::read(path)?).map_err(io::Error::other)?)),
        None => Model::shipped(),
    };
    let with_steps = arguments.iter().any(|argument| argument == "--steps");
    let mut input = BufReader::with_capacity(1 << 20, io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    let mut length = [0; 4];
    loop {
        match input.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return output.flush(),
            Err(error) => return Err(error),
        }
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize * 2];
        input.read_exact(&mut bytes)?;
        let samples: Vec<i16> = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();

        let mut analyzer = Analyzer::with_model(model, config);
        analyzer.push(&samples);
        let (analysis, heard) = analyzer.finish_vocalisations();
        let (logits, steps) = steps_of(model, &samples);
        let events: Vec<_> = heard.iter().map(|heard| line_of(heard, model, &samples)).collect();
        let mut line = json!({ "cat_score": analysis.cat_score, "logits": logits, "events": events });
        if with_steps {
            line["steps"] = json!(steps);
        }
        writeln!(output, "{line}")?;
        output.flush()?;
    }
}

/// Samples of a clip before and after the vocalisation: half a second.
const ROLL_SAMPLES: usize = 8_000;

fn line_of(heard: &Vocalisation, model: &Model, samples: &[i16]) -> serde_json::Value {
    let (start, end) = (heard.detection.start_sample as usize, heard.detection.end_sample as usize);
    let from = start.saturating_sub(ROLL_SAMPLES);
    let clip = &samples[from..(end + ROLL_SAMPLES).min(samples.len())];
    let kept = without_speech(model, clip, start - from..end - from).map(|kept| [kept.start + from, kept.end + from]);
    json!({
        "start_sample": heard.detection.start_sample,
        "end_sample": heard.detection.end_sample,
        "score": heard.detection.score,
        "kind": format!("{:?}", heard.kind),
        "embedding": heard.features.embedding.to_vec(),
        "prosody": heard.features.prosody,
        "context": heard.detection.context,
        "clip": kept,
    })
}

/// Cat logit and embedding of every step.
fn steps_of(model: &Model, samples: &[i16]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let (mut logits, mut steps) = (Vec::new(), Vec::new());
    let mut on_answer = |answer: &sound::model::Answer| {
        logits.push(answer.cat_logit);
        steps.push(answer.embedding.to_vec());
    };
    let mut hearing = Hearing::new(model);
    let mut front = LogMel::new();
    for piece in [samples, &[0; WINDOW_SAMPLES]] {
        front.push(piece, |frame| hearing.push(model, frame, &mut on_answer));
    }
    hearing.finish(model, &mut on_answer);
    (logits, steps)
}
