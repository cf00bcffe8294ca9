//! Two servers and a witness: any one may die, and what only the witness still has is not lost.

mod world;

use std::time::Duration;

use corten_store::{Birth, Change, ImageInterval, Store, witness_id};
use world::{World, change, eventually, keys, write};

/// A founder, a second server, and a witness that keeps little of its log.
async fn two_and_a_witness() -> (World, Store, u64, u64) {
    let mut world = World::founded().await;
    let founder = world.any();
    let second = world.grow("2").await;
    world.image = ImageInterval {
        entries: 40,
        bytes: 1 << 20,
    };
    let (cluster, witness) = (founder.identity().cluster, witness_id(rand::random()));
    world
        .open(
            "witness",
            Birth::Join {
                cluster,
                member: witness,
            },
        )
        .await;
    change(&founder, Change::AddLearner(witness)).await;
    change(&founder, Change::AddVoter(witness)).await;
    (world, founder, second, witness)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_leaves_when_the_one_that_stays_has_everything() {
    let (mut world, founder, second, _) = two_and_a_witness().await;
    let first = founder.identity().member;
    founder.transfer_leadership(first).expect("asked");
    world.stores[&second].transfer_leadership(first).expect("asked");
    eventually(|| (founder.status().leader == Some(first)).then_some(())).await;
    // More than the witness keeps is on the first server only.
    world.net.0.lock().silent.insert(second);
    for turn in 0..100 {
        write(&founder, &format!("/k/{turn:03}")).await;
    }
    change(&founder, Change::Remove(first)).await;
    let membership = || founder.standing().borrow().members.clone();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        membership().joint,
        "it has left, and the state with it: {:?}",
        membership()
    );
    world.net.0.lock().silent.clear();
    eventually(|| (!membership().joint && !membership().voters.contains(&first)).then_some(())).await;
    drop(founder);
    world.close(first).await;
    let rest = world.stores[&second].clone();
    assert_eq!(
        keys(&rest)
            .await
            .iter()
            .filter(|key| key.starts_with("/k/"))
            .count(),
        100
    );
    write(&rest, "/without/the/first").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_brings_up_the_server_that_lacks_what_only_it_has() {
    let mut world = World::founded().await;
    let first = *world.stores.keys().next().expect("the founder");
    let founder = world.any();
    let second = world.grow("2").await;
    // Small enough that the witness cuts its log, and starts from an empty image.
    world.image = ImageInterval {
        entries: 40,
        bytes: 1 << 20,
    };
    let (cluster, member) = (founder.identity().cluster, witness_id(rand::random()));
    world.open("witness", Birth::Join { cluster, member }).await;
    change(&founder, Change::AddLearner(member)).await;
    for turn in 0..100 {
        write(&founder, &format!("/k/{turn:03}")).await;
    }
    change(&founder, Change::AddVoter(member)).await;
    let witness = world.stores[&member].clone();
    eventually(|| (witness.status().applied + 20 >= founder.status().applied).then_some(())).await;
    assert_eq!(witness.snapshot().len(), 0, "it holds no objects");
    assert!(
        witness
            .txn(corten_store::Txn::new(vec![], vec![world::put("/x", "y")]))
            .await
            .is_err(),
        "and takes none"
    );
    drop(witness);

    // The second server hears nothing for a moment; what is written then is on the first and the witness only.
    founder.transfer_leadership(first).expect("asked");
    world.stores[&second].transfer_leadership(first).expect("asked");
    eventually(|| (founder.status().leader == Some(first)).then_some(())).await;
    world.net.0.lock().silent.insert(second);
    write(&founder, "/only/the/witness/has").await;
    drop(founder);
    world.close(first).await;
    world.net.0.lock().silent.clear();
    let rest = world.stores[&second].clone();
    eventually(|| (rest.status().leader == Some(second)).then_some(())).await;
    assert!(keys(&rest).await.contains(&"/only/the/witness/has".to_owned()));
    write(&rest, "/with/two/of/three").await;

    // The witness dies and comes back on its empty image; the first server comes back.
    world.close(member).await;
    world.open("witness", Birth::Found).await;
    write(&rest, "/after/a/restart").await;
    world.open("1", Birth::Found).await;
    world.caught_up_with(first, &rest).await;
    assert_eq!(keys(&world.stores[&first]).await, keys(&rest).await);
    assert_eq!(rest.status().leader, Some(second));
}
