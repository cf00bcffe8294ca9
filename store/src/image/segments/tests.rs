use super::*;
use crate::image::contract;

fn entries(numbers: std::ops::Range<u64>, revision: u64, size: usize) -> Vec<Arc<Entry>> {
    numbers
        .map(|n| contract::entry(&format!("/key/{n:05}"), revision + n, size))
        .collect()
}

#[test]
fn keeps_the_contract() {
    contract::check(|| {
        let dir = tempfile::tempdir().expect("a folder");
        move || SegmentImage::new(&dir.path().join("image"))
    });
    contract::check(|| {
        let dir = tempfile::tempdir().expect("a folder");
        move || SegmentImage {
            segment_bytes: 1,
            ..SegmentImage::new(&dir.path().join("image"))
        }
    });
}

#[track_caller]
fn check_loads(path: &Path, batch: &Batch) {
    let (meta, read) = SegmentImage::new(path).load().expect("whole").expect("an image");
    assert_eq!(meta, batch.meta);
    assert!(read.iter().eq(batch.state.iter()));
}

#[test]
fn the_files_stay_within_three_times_what_they_hold() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("image");
    let (mut image, mut tree) = (SegmentImage::new(&path), Tree::default());
    image.segment_bytes = 1 << 20;
    let mut last = None;
    // Of 10 MiB the same two thirds are written again and again; what is never written has to be kept all the same.
    for round in 0..16u64 {
        let changed = if round == 0 { 0..2500 } else { 0..1700 };
        let batch = contract::batch(
            &mut tree,
            entries(changed, 3000 * (round + 1), 4 << 10),
            &[],
            3000 * (round + 2),
        );
        image.write(&batch).expect("write");
        last = Some(batch);
        let live = image.open.as_ref().expect("open").live();
        assert!(live > 9 << 20);
        assert!(
            image.disk_bytes() <= 3 * live,
            "round {round}: {} for {live}",
            image.disk_bytes()
        );
    }
    assert_eq!(
        image.disk_bytes(),
        image
            .disk
            .list()
            .expect("list")
            .iter()
            .map(|(_, length)| length)
            .sum::<u64>()
    );
    check_loads(&path, &last.expect("sixteen"));
    let gone: Vec<String> = (10..2500).map(|n| format!("/key/{n:05}")).collect();
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    for index in 0..3 {
        let batch = contract::batch(&mut tree, vec![], &gone, 60_000 + index);
        image.write(&batch).expect("write");
        check_loads(&path, &batch);
    }
    assert!(image.disk_bytes() <= CLEAN_BYTES, "{}", image.disk_bytes());
}

#[test]
fn a_file_that_is_damaged_when_it_is_cleaned_is_replaced_from_memory() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("image");
    let (mut image, mut tree) = (SegmentImage::new(&path), Tree::default());
    image.segment_bytes = 4 << 20;
    let whole = |tree: &mut Tree, round: u64| {
        contract::batch(
            tree,
            entries(0..1000, 2000 * round, 8 << 10),
            &[],
            2000 * round + 1500,
        )
    };
    image.write(&whole(&mut tree, 1)).expect("write");
    let first = path.join("0000000001.segment");
    let mut bytes = std::fs::read(&first).expect("a file");
    bytes[5000] ^= 1;
    std::fs::write(&first, bytes).expect("write");
    assert!(matches!(
        SegmentImage::new(&path).load(),
        Err(ImageError::Damaged(_))
    ));
    assert!(matches!(image.check(None, 1), Err(ImageError::Damaged(_))));
    for round in 2..5 {
        let batch = whole(&mut tree, round);
        image.write(&batch).expect("write");
        if round > 3 {
            check_loads(&path, &batch);
        }
    }
    let mut next = None;
    while let (Some(after), _) = image.check(next.as_deref(), 1).expect("whole") {
        next = Some(after);
    }
}

#[test]
fn damage_is_refused_or_an_older_commit_but_never_believed() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("image");
    let mut tree = Tree::default();
    let mut image = SegmentImage::new(&path);
    image.segment_bytes = 30_000;
    let mut batches: Vec<Batch> = Vec::new();
    for round in 1..4u64 {
        let batch = contract::batch(&mut tree, entries(0..60, 100 * round, 300), &[], 100 * round + 99);
        image.write(&batch).expect("write");
        batches.push(batch);
    }
    let files: Vec<PathBuf> = image
        .open
        .as_ref()
        .expect("open")
        .files
        .iter()
        .map(|file| path.join(format!("{:010}.segment", file.number)))
        .collect();
    assert!(files.len() > 1);
    let (mut refused, mut older) = (0, 0);
    for round in 0..90usize {
        let file = &files[round % files.len()];
        let good = std::fs::read(file).expect("read");
        let mut bytes = good.clone();
        let at = round * 7919 * 131 % bytes.len();
        match round / 30 {
            0 => bytes[at] ^= 1 << (round % 8),
            1 => bytes.truncate(at),
            _ => bytes[at..].iter_mut().take(4096).for_each(|byte| *byte = 0),
        }
        std::fs::write(file, &bytes).expect("write");
        match SegmentImage::new(&path).load() {
            Ok(Some((meta, read))) => {
                let batch = batches
                    .iter()
                    .find(|batch| batch.meta == meta)
                    .expect("one of them");
                assert!(read.iter().eq(batch.state.iter()), "round {round}");
                older += usize::from(batch.meta != batches[2].meta);
            }
            Ok(None) => older += 1,
            Err(_) => refused += 1,
        }
        std::fs::write(file, good).expect("write");
    }
    assert!(
        refused > 20 && older > 0,
        "{refused} of 90 rounds were refused, {older} were older"
    );
    check_loads(&path, &batches[2]);
}

#[test]
fn an_image_of_the_older_format_is_refused_and_put_aside() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("image");
    std::fs::write(dir.path().join("image.redb"), b"old").expect("write");
    let mut image = SegmentImage::new(&path);
    assert!(matches!(image.load(), Err(ImageError::Damaged(_))));
    image.set_aside().expect("set aside");
    assert!(image.load().expect("none").is_none());
    assert!(dir.path().join("image.damaged-1").exists());
}
