//! Memory that is handed around in `Arc`s, and used again once nobody looks at it any more.

use std::sync::Arc;

/// One of `all` that nobody else has; where there is none, a new one takes the place of the first.
pub fn unused<T: Default + Clone, const N: usize>(all: &mut [Arc<T>; N]) -> &mut T {
    let unused = all.iter_mut().position(|one| Arc::get_mut(one).is_some());
    let i = unused.unwrap_or_default();
    all.rotate_left(i);
    let first = &mut all[0];
    if unused.is_none() {
        *first = Arc::default();
    }
    // Nobody has it, so nothing is cloned.
    Arc::make_mut(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_is_left_alone_and_the_rest_is_used_again() {
        let mut all: [Arc<Vec<u8>>; 4] = Default::default();
        let mut held = Vec::new();
        for n in 0..9 {
            *unused(&mut all) = vec![n; 100];
            let [newest, ..] = &all;
            held.push(newest.clone());
            let memory = newest.as_ptr();
            // Three are looked at by others; from the fifth on the memory is that of one which isn't any more.
            if held.len() > 3 {
                let before = held.remove(0);
                assert_eq!((before[0], before.len()), (n - 3, 100));
                let freed = before.as_ptr();
                drop(before);
                assert_eq!(unused(&mut all).as_ptr(), freed);
                assert_ne!(freed, memory);
            }
        }
        let others = [all[0].clone(), all[1].clone(), all[2].clone(), all[3].clone()];
        assert!(unused(&mut all).is_empty());
        assert!(others.iter().all(|other| other.len() == 100));
    }
}
