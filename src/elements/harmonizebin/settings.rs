//! The properties that a user sets, and what they are before anyone does.

use super::Key;
use super::placement::Placement;

#[derive(Clone, Debug)]
pub struct Settings {
    pub key: Key,
    /// 0xRRGGBB.
    pub key_color: u32,
    pub key_angle: f32,
    pub key_noise_level: f32,
    pub placement: Placement,
    pub repeat_after_eos: bool,
}

/// A green and a blue backing where the light on it is low: brighter parts are stronger in colour, and go with them.
const GREEN: u32 = 0x206e30;
const BLUE: u32 = 0x223878;

impl Settings {
    /// The colour that is keyed out, as 0xRRGGBB.
    pub fn backing(&self) -> u32 {
        match self.key {
            Key::None | Key::Custom => self.key_color,
            Key::Green => GREEN,
            Key::Blue => BLUE,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key: Key::default(),
            key_color: 0x00ff00,
            key_angle: 85.0,
            key_noise_level: 6.0,
            placement: Placement::default(),
            repeat_after_eos: false,
        }
    }
}
