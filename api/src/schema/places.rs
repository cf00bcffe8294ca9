//! Where a struct's field is, by its name: a small table without buckets, made once for each type. Reading an object asks
//! for every field it has, and walking it asks again, so the search is most of what the table of facts costs.

/// Positions by the hash of their names; 0 is an empty place, else the position and 1.
#[derive(Debug, Default)]
pub(super) struct Places(Box<[u8]>);

/// Names differ in length and at their ends; what still collides lies next to each other.
fn hash(name: &str) -> usize {
    let bytes = name.as_bytes();
    let at = |idx: usize| usize::from(bytes.get(idx).copied().unwrap_or_default());
    let (first, middle, last) = (at(0), at(bytes.len() / 2), at(bytes.len().saturating_sub(1)));
    bytes.len().wrapping_mul(31) ^ first.wrapping_mul(7) ^ middle.wrapping_mul(13) ^ last.wrapping_mul(17)
}

impl Places {
    /// # Panics
    /// For more than 128 names: the largest type has far fewer.
    pub fn of<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Self {
        assert!(names.len() <= 128, "positions fit in a byte");
        let mut places = vec![0u8; (names.len() * 2).next_power_of_two().max(2)].into_boxed_slice();
        let mask = places.len() - 1;
        for (position, name) in names.enumerate() {
            let mut place = hash(name) & mask;
            while places[place] != 0 {
                place = (place + 1) & mask;
            }
            places[place] = u8::try_from(position + 1).expect("counted above");
        }
        Self(places)
    }

    /// The position of `name`; `name_at` tells the name at a position.
    pub fn find<'a>(&self, name: &str, name_at: impl Fn(usize) -> &'a str) -> Option<usize> {
        let mask = self.0.len().checked_sub(1)?;
        let mut place = hash(name) & mask;
        // At least half of the places are empty.
        loop {
            let position = usize::from(*self.0.get(place)?).checked_sub(1)?;
            if name_at(position) == name {
                return Some(position);
            }
            place = (place + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str]) {
        let places = Places::of(names.iter().copied());
        for (position, name) in names.iter().enumerate() {
            assert_eq!(places.find(name, |at| names[at]), Some(position), "{name}");
        }
        for other in ["", "x", "metadat", "metadata2", "Name", "zzz"] {
            assert_eq!(places.find(other, |at| names[at]), None, "{other}");
        }
    }

    #[test]
    fn every_name_and_no_other_is_found() {
        check(&[]);
        check(&["name"]);
        // These collide in length, first, middle and last letter.
        check(&["abxcd", "aaxad", "azxzd", "abxbd"]);
        for entry in crate::schema::schema().types() {
            let names: Vec<&str> = entry.fields.iter().map(|field| field.name).collect();
            let places = Places::of(names.iter().copied());
            for (position, name) in names.iter().enumerate() {
                assert_eq!(
                    places.find(name, |at| names[at]),
                    Some(position),
                    "{}.{name}",
                    entry.name
                );
            }
        }
    }
}
