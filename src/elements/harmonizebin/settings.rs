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

impl Default for Settings {
    fn default() -> Self {
        Self {
            key: Key::default(),
            key_color: 0x00ff00,
            key_angle: 20.0,
            key_noise_level: 2.0,
            placement: Placement::default(),
            repeat_after_eos: false,
        }
    }
}
