//! The audit log shows what was changed in it.

use serde_json::json;
use undoo_store::{
    MOST_COUNTED, Page, Store,
    audit::{self, NewAudit},
};

use crate::world::{World, on_both};

on_both!(
    entries_are_listed_and_the_chain_holds,
    whatever_is_changed_shows,
    a_missing_end_shows,
    writers_at_the_same_time_make_one_chain,
    a_long_list_is_counted_so_far,
);

async fn noted(store: &Store, world: &World, action: &str) {
    let tx = store.begin().await.unwrap();
    let new = NewAudit {
        organisation_id: world.organisation.id,
        actor: Some(world.user.id),
        action: action.into(),
        object: "backup:1".into(),
        data: json!({ "b": 1.5, "a": ["\0", "é"] }),
    };
    audit::append(&tx, &new).await.unwrap();
    tx.commit().await.unwrap();
}

async fn entries_are_listed_and_the_chain_holds(world: World) {
    assert_eq!(audit::verify(&world.store, world.organisation.id).await.unwrap(), 0);
    for action in ["backup.create", "backup.delete", "restore.start"] {
        noted(&world.store, &world, action).await;
    }
    assert_eq!(audit::verify(&world.store, world.organisation.id).await.unwrap(), 3);
    let page = Page { page: 1, size: 2 };
    let listed = audit::list(&world.store, world.organisation.id, page).await.unwrap();
    assert_eq!(listed.total, 3);
    let entries: Vec<_> = listed.items.iter().map(|entry| (entry.sequence, entry.action.as_str())).collect();
    assert_eq!(entries, [(3, "restore.start"), (2, "backup.delete")]);
    assert_eq!(listed.items[0].data, json!({ "a": ["\0", "é"], "b": 1.5 }));
    assert_eq!(listed.items[0].actor, Some(world.user.id));
}

async fn whatever_is_changed_shows(world: World) {
    for action in ["one", "two", "three"] {
        noted(&world.store, &world, action).await;
    }
    let changes = [
        ("action = 'other'", "action = 'two'"),
        ("actor = NULL", "actor = (SELECT id FROM users)"),
        ("object = 'backup:2'", "object = 'backup:1'"),
        ("data = '{}'", "data = '{\"a\":[\"\\u0000\",\"é\"],\"b\":1.5}'"),
        ("at = at + 1", "at = at - 1"),
    ];
    for (change, back) in changes {
        world.sql(&format!("UPDATE audit_entries SET {change} WHERE sequence = 2")).await;
        let problem = audit::verify(&world.store, world.organisation.id).await.unwrap_err();
        assert_eq!(problem.code, "audit_log_changed", "{change}");
        assert!(problem.message.contains("entry 2 "), "{change}: {}", problem.message);
        world.sql(&format!("UPDATE audit_entries SET {back} WHERE sequence = 2")).await;
        assert_eq!(audit::verify(&world.store, world.organisation.id).await.unwrap(), 3, "{back}");
    }
    world.sql("DELETE FROM audit_entries WHERE sequence = 2").await;
    let problem = audit::verify(&world.store, world.organisation.id).await.unwrap_err();
    assert!(problem.message.contains("entry 2 "), "{}", problem.message);
}

async fn a_missing_end_shows(world: World) {
    for action in ["one", "two"] {
        noted(&world.store, &world, action).await;
    }
    world.sql("DELETE FROM audit_entries WHERE sequence = 2").await;
    assert!(audit::verify(&world.store, world.organisation.id).await.is_err());
    world.sql("UPDATE audit_heads SET sequence = 1").await;
    assert!(audit::verify(&world.store, world.organisation.id).await.is_err());
}

async fn writers_at_the_same_time_make_one_chain(world: World) {
    let world = std::sync::Arc::new(world);
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (world, store) = (world.clone(), world.elsewhere().await);
        writers.spawn(async move {
            for _ in 0..10 {
                noted(&store, &world, "one").await;
            }
        });
    }
    writers.join_all().await;
    assert_eq!(audit::verify(&world.store, world.organisation.id).await.unwrap(), 40);
}

async fn a_long_list_is_counted_so_far(world: World) {
    noted(&world.store, &world, "one").await;
    let more = |from, to| {
        format!(
            "WITH RECURSIVE places(place) AS \
             (SELECT {from} UNION ALL SELECT place + 1 FROM places WHERE place < {to}) \
             INSERT INTO audit_entries (organisation_id, sequence, action, object, data, at, hash) \
             SELECT organisation_id, place, 'x', 'y', '{{}}', 0, hash FROM audit_heads, places"
        )
    };
    let total = async || {
        let page = Page { page: 2, size: 100 };
        audit::list(&world.store, world.organisation.id, page).await.unwrap().total
    };
    world.sql(&more(2, 150)).await;
    assert_eq!(total().await, 150);
    world.sql(&more(151, MOST_COUNTED - 1)).await;
    assert_eq!(total().await, MOST_COUNTED - 1);
    world.sql(&more(MOST_COUNTED, MOST_COUNTED + 7)).await;
    assert_eq!(total().await, MOST_COUNTED);
}
