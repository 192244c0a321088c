//! Which bytes of a file are placed.

use haul::transfer::placement::Placement;

use super::bytes::Bytes;

/// A map of ranges says what a map of bytes says, and what it refuses changes nothing.
pub fn placement(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let declared = bytes.coin().then(|| usize::from(bytes.byte()));
    let mut placement = Placement::new(declared.map(|size| size as u64));
    let mut model = [false; 512];

    while !bytes.is_empty() {
        let (offset, len) = (bytes.number(), bytes.number());
        let is_raw = bytes.coin();
        let range = usize::try_from(offset).ok().zip(usize::try_from(len).ok());
        let range = range.and_then(|(offset, len)| Some(offset..offset.checked_add(len)?));
        let end = declared.unwrap_or(model.len());
        let is_free = range.filter(|range| {
            !range.is_empty() && range.end <= end && model[range.clone()].iter().all(|is_placed| !is_placed)
        });
        // Without a size, what lies beyond the model is not looked at.
        if declared.is_none() && is_free.is_none() && offset.saturating_add(len) > model.len() as u64 {
            continue;
        }

        let result = if is_raw { placement.place_raw(offset, len) } else { placement.place(offset, len) };

        assert_eq!(result.is_ok(), is_free.is_some(), "{offset} {len}: {result:?}");
        if let Some(range) = is_free {
            model[range].fill(true);
        }
        check(&placement, &model);
    }
}

fn check(placement: &Placement, model: &[bool]) {
    let count = model.iter().filter(|is_placed| **is_placed).count();
    assert_eq!(placement.placed_bytes(), count as u64);
    let size = model.iter().rposition(|is_placed| *is_placed).map_or(0, |last| last + 1);
    assert_eq!(placement.is_complete(size as u64), count == size);
    assert!(!placement.is_complete(size as u64 + 1));
    let missing = placement.missing(size as u64).expect("nothing lies beyond");
    let missing: Vec<u64> = missing.flatten().collect();
    assert!(
        missing
            .iter()
            .copied()
            .eq((0..size as u64).filter(|&at| { !model[usize::try_from(at).expect("within the model")] }))
    );
    assert!(size == 0 || placement.missing(size as u64 - 1).is_none());
    let first_gap = model.iter().position(|is_placed| !is_placed).unwrap_or(model.len());
    assert_eq!(placement.contiguous_from(0), first_gap as u64);
}
