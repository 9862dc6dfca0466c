//! The spectrogram of a clip as a PNG, with seconds below and kilohertz on the left.

use sound::SAMPLE_RATE_HZ;
use sound::spectrogram::{self, HIGHEST_HZ, Spectrogram};

/// Size of a picture, and whether it has axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PictureSize {
    /// Width of the whole picture, in pixels.
    pub(super) width_px: usize,
    /// Height of the whole picture, in pixels.
    pub(super) height_px: usize,
    /// Whether to draw axes. Without them the spectrogram fills the picture.
    pub(super) axes: bool,
}

impl PictureSize {
    /// Smallest picture, in pixels. It has room for the axes and a spectrogram.
    pub(super) const MIN: (usize, usize) = (160, 100);
    /// Largest picture, in pixels.
    pub(super) const MAX: (usize, usize) = (2_000, 1_000);
}

impl Default for PictureSize {
    fn default() -> Self {
        Self { width_px: 900, height_px: 400, axes: true }
    }
}

/// The part of the clip that is marked below the picture: the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// First sample, counted from the start of the clip.
    pub(super) start_sample: usize,
    /// The sample after the last one.
    pub(super) end_sample: usize,
}

/// Margins around the spectrogram, with room for the labels, in pixels.
const LEFT_PX: usize = 72;
const BELOW_PX: usize = 44;
const RIGHT_PX: usize = 26;
const ABOVE_PX: usize = 12;

/// Colours of the palette that show levels. The colours after them draw the background, the axes and the mark.
const SOUND_COLOURS: usize = 253;
const BACKGROUND: u8 = 253;
const INK: u8 = 254;
const MARK: u8 = 255;

/// Draws canonical audio.
///
/// # Errors
/// If the encoder fails. It writes to memory, so this is not expected.
pub(super) fn png(samples: &[i16], mark: Option<Mark>, size: PictureSize) -> Result<Vec<u8>, png::EncodingError> {
    let width_px = size.width_px.clamp(PictureSize::MIN.0, PictureSize::MAX.0);
    let height_px = size.height_px.clamp(PictureSize::MIN.1, PictureSize::MAX.1);
    let mut canvas = Canvas { width_px, pixels: vec![BACKGROUND; width_px * height_px] };
    let plot = if size.axes {
        Plot {
            x: LEFT_PX,
            y: ABOVE_PX,
            width_px: width_px - LEFT_PX - RIGHT_PX,
            height_px: height_px - ABOVE_PX - BELOW_PX,
        }
    } else {
        Plot { x: 0, y: 0, width_px, height_px }
    };
    let sound = Spectrogram::of(samples, plot.width_px, plot.height_px);
    for y in 0..plot.height_px {
        for (x, level) in sound.row(y).iter().enumerate() {
            let scaled = usize::from(*level) * (SOUND_COLOURS - 1) / 255;
            canvas.set(plot.x + x, plot.y + y, scaled as u8);
        }
    }
    if size.axes {
        draw_time_axis(&mut canvas, plot, samples.len());
        draw_frequency_axis(&mut canvas, plot);
        if let Some(mark) = mark {
            draw_mark(&mut canvas, plot, mark, samples.len());
        }
    }
    encode(&canvas, height_px)
}

/// Position of the spectrogram in the picture.
#[derive(Debug, Clone, Copy)]
struct Plot {
    x: usize,
    y: usize,
    width_px: usize,
    height_px: usize,
}

struct Canvas {
    width_px: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// Colours a pixel. Pixels outside the canvas are ignored.
    fn set(&mut self, x: usize, y: usize, colour: u8) {
        if x < self.width_px
            && let Some(pixel) = self.pixels.get_mut(y * self.width_px + x)
        {
            *pixel = colour;
        }
    }

    fn fill(&mut self, x: usize, y: usize, width_px: usize, height_px: usize, colour: u8) {
        for row in y..y + height_px {
            for column in x..x + width_px {
                self.set(column, row, colour);
            }
        }
    }

    fn text(&mut self, x: usize, y: usize, text: &str) {
        for (n, letter) in text.chars().enumerate() {
            for (row, bits) in glyph(letter).iter().enumerate() {
                for column in 0..GLYPH_COLUMNS {
                    if bits >> (GLYPH_COLUMNS - 1 - column) & 1 == 1 {
                        let left = x + (n * (GLYPH_COLUMNS + 1) + column) * GLYPH_SCALE;
                        self.fill(left, y + row * GLYPH_SCALE, GLYPH_SCALE, GLYPH_SCALE, INK);
                    }
                }
            }
        }
    }
}

const GLYPH_COLUMNS: usize = 5;
const GLYPH_ROWS: usize = 7;
/// Pixels per dot of a letter.
const GLYPH_SCALE: usize = 2;
const TEXT_HEIGHT_PX: usize = GLYPH_ROWS * GLYPH_SCALE;

fn text_width_px(text: &str) -> usize {
    (text.chars().count() * (GLYPH_COLUMNS + 1)).saturating_sub(1) * GLYPH_SCALE
}

/// The letters that the axes use, five dots wide and seven high. Other letters are blank.
fn glyph(letter: char) -> [u8; GLYPH_ROWS] {
    match letter {
        '0' => [0b01110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110],
        '1' => [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        '2' => [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
        '3' => [0b01110, 0b10001, 0b00001, 0b00110, 0b00001, 0b10001, 0b01110],
        '4' => [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
        '5' => [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
        '6' => [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
        '7' => [0b11111, 0b00001, 0b00010, 0b00010, 0b00100, 0b00100, 0b00100],
        '8' => [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
        '9' => [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
        '.' => [0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b00110, 0b00110],
        's' => [0b00000, 0b00000, 0b01111, 0b10000, 0b01110, 0b00001, 0b11110],
        'k' => [0b10000, 0b10000, 0b10010, 0b10100, 0b11000, 0b10100, 0b10010],
        'H' => [0b10001, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001],
        'z' => [0b00000, 0b00000, 0b11111, 0b00010, 0b00100, 0b01000, 0b11111],
        _ => [0; GLYPH_ROWS],
    }
}

/// Draws ticks at round seconds, as many as there is room for. The last label has the unit.
fn draw_time_axis(canvas: &mut Canvas, plot: Plot, sample_count: usize) {
    let duration_s = sample_count as f64 / f64::from(SAMPLE_RATE_HZ);
    let bottom = plot.y + plot.height_px;
    let step_ms = tick_step_ms(duration_s, plot.width_px);
    let decimals = if step_ms.is_multiple_of(1_000) {
        0
    } else if step_ms.is_multiple_of(100) {
        1
    } else {
        2
    };
    let count = (duration_s * 1_000.0 / step_ms as f64 + 1e-9) as u64;
    for tick in 0..=count {
        let at_s = (tick * step_ms) as f64 / 1_000.0;
        let share = if duration_s > 0.0 { at_s / duration_s } else { 0.0 };
        let x = plot.x + (share * (plot.width_px - 1) as f64).round() as usize;
        canvas.fill(x.saturating_sub(1), bottom + 10, 2, 6, INK);
        let text = if tick == count { format!("{at_s:.decimals$} s") } else { format!("{at_s:.decimals$}") };
        let left = x.saturating_sub(text_width_px(&format!("{at_s:.decimals$}")) / 2);
        let left = left.min((plot.x + plot.width_px + RIGHT_PX).saturating_sub(text_width_px(&text) + 2));
        canvas.text(left, bottom + 20, &text);
    }
}

/// The smallest round step between ticks whose labels do not overlap, in milliseconds.
fn tick_step_ms(duration_s: f64, width_px: usize) -> u64 {
    const STEPS_MS: [u64; 12] = [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];
    let room = |step_ms: u64| width_px as f64 * step_ms as f64 / (duration_s * 1_000.0).max(1.0);
    STEPS_MS.into_iter().find(|&step_ms| room(step_ms) >= 90.0).unwrap_or(60_000)
}

/// Draws ticks at octaves, from the top down, and omits those without room.
fn draw_frequency_axis(canvas: &mut Canvas, plot: Plot) {
    const TICKS: [(f32, &str); 7] = [
        (8_000.0, "8 kHz"),
        (4_000.0, "4"),
        (2_000.0, "2"),
        (1_000.0, "1"),
        (500.0, "0.5"),
        (250.0, "0.25"),
        (100.0, "0.1"),
    ];
    let mut free_from = 0;
    for (hz, text) in TICKS {
        let height = spectrogram::height_of_hz(hz.min(HIGHEST_HZ));
        let y = plot.y + ((1.0 - height) * (plot.height_px - 1) as f32).round() as usize;
        let top = y.saturating_sub(TEXT_HEIGHT_PX / 2);
        if top < free_from {
            continue;
        }
        free_from = top + TEXT_HEIGHT_PX + 6;
        canvas.fill(plot.x - 8, y.saturating_sub(1), 6, 2, INK);
        let right = plot.x - 12;
        canvas.text(right.saturating_sub(text_width_px(text)), top, text);
    }
}

/// Draws a bar below the spectrogram, from the first sample of the event to its last.
fn draw_mark(canvas: &mut Canvas, plot: Plot, mark: Mark, sample_count: usize) {
    let x_of = |sample: usize| plot.x + sample.min(sample_count) * plot.width_px / sample_count.max(1);
    let (from, to) = (x_of(mark.start_sample), x_of(mark.end_sample));
    canvas.fill(from, plot.y + plot.height_px + 3, to.saturating_sub(from).max(1), 4, MARK);
}

fn encode(canvas: &Canvas, height_px: usize) -> Result<Vec<u8>, png::EncodingError> {
    let mut palette = Vec::with_capacity(256 * 3);
    for n in 0..SOUND_COLOURS {
        palette.extend(spectrogram::colour((n * 255 / (SOUND_COLOURS - 1)) as u8));
    }
    palette.extend([0x16, 0x14, 0x1f]); // background: slightly lighter than silence
    palette.extend([0xd8, 0xd6, 0xe0]); // ink
    palette.extend([0x5f, 0xc9, 0xf8]); // mark: a blue that no level has
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, canvas.width_px as u32, height_px as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette);
    encoder.set_compression(png::Compression::Balanced);
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&canvas.pixels)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> (usize, usize, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width as usize, info.height as usize, pixels)
    }

    fn sweep() -> Vec<i16> {
        let mut phase = 0.0_f32;
        let tone = (0..32_000).map(|n| {
            phase += (300.0 + n as f32 / 10.0) / 16_000.0 * std::f32::consts::TAU;
            (phase.sin() * 9_000.0) as i16
        });
        tone.collect()
    }

    #[test]
    fn picture_has_the_size_that_was_asked_for_within_bounds() {
        for (asked, expected) in
            [((900, 400), (900, 400)), ((1, 1), PictureSize::MIN), ((9_999, 9_999), PictureSize::MAX)]
        {
            for axes in [true, false] {
                let size = PictureSize { width_px: asked.0, height_px: asked.1, axes };
                let (width, height, _) = decode(&png(&sweep(), None, size).unwrap());
                assert_eq!((width, height), expected);
            }
        }
    }

    #[test]
    fn every_length_can_be_drawn() {
        for count in [0, 1, 100, 16_000, 16_000 * 90] {
            png(&vec![100; count], Some(Mark { start_sample: 0, end_sample: count }), PictureSize::default()).unwrap();
        }
    }

    #[test]
    fn mark_lies_below_its_samples() {
        let mark = Mark { start_sample: 8_000, end_sample: 24_000 };
        let size = PictureSize { width_px: LEFT_PX + 400 + RIGHT_PX, height_px: 300, axes: true };
        let (width, height, pixels) = decode(&png(&sweep(), Some(mark), size).unwrap());
        let row = height - BELOW_PX + 4;
        let marked: Vec<usize> = (0..width).filter(|x| pixels[(row * width + x)..][..1] == [MARK]).collect();
        assert_eq!((marked[0], *marked.last().unwrap()), (LEFT_PX + 100, LEFT_PX + 299));
    }

    #[test]
    fn time_labels_have_room() {
        for (duration_s, width_px) in [(0.3, 800), (1.7, 800), (12.0, 300), (600.0, 2_000)] {
            let step_ms = tick_step_ms(duration_s, width_px);
            let ticks = duration_s * 1_000.0 / step_ms as f64;
            assert!(ticks * 90.0 <= width_px as f64 * 1.001, "{ticks} ticks in {width_px} px");
            assert!(ticks >= 1.0, "no tick but 0 for {duration_s} s in {width_px} px");
        }
    }

    #[test]
    fn every_letter_of_the_axes_has_a_glyph() {
        for letter in "0123456789.skHz".chars() {
            assert_ne!(glyph(letter), [0; GLYPH_ROWS], "{letter}");
        }
    }
}
