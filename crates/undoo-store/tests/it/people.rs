//! People, what they belong to, and what they sign in with.

use jiff::{SignedDuration, Timestamp};
use undoo_core::{
    OrganisationId, ProjectId, TokenId, UserId,
    platform::{ApiToken, Membership, OrgRole, Permission, ProjectRole, User},
};
use undoo_store::{
    Page, Store,
    access::{self, Link, LinksOf},
    people,
};

use crate::world::{World, now, on_both, organisation, project, user};

on_both!(
    a_user_is_read_back_as_written,
    roles_are_given_changed_and_taken,
    members_are_listed_with_their_roles,
    organisations_and_projects_have_names_of_their_own,
    whoever_decides_about_an_organisation_waits_for_another_who_does,
    who_signs_in_comes_with_all_that_they_belong_to,
    a_session_ends,
    a_token_is_read_back_revoked_and_its_use_noted,
    a_link_works_once_for_its_purpose,
    links_of_somebody_are_voided_by_what_they_are_for,
    of_many_that_use_a_link_one_succeeds,
);

async fn a_user_is_read_back_as_written(world: World) {
    assert!(people::users_exist(&world.store).await.unwrap());
    let mut user = world.user.clone();
    assert_eq!(people::user(&world.store, user.id).await.unwrap(), Some(user.clone()));
    let by_email = people::user_by_email(&world.store, &user.email).await.unwrap();
    assert_eq!(by_email, Some((user.clone(), Some("hash".into()))));
    (user.name, user.disabled_at, user.portal_admin) = ("Ada L.".into(), Some(now()), true);
    people::user_update(&world.store, &user).await.unwrap();
    people::password_set(&world.store, user.id, "other").await.unwrap();
    people::user_update(&world.store, &user).await.unwrap();
    let by_email = people::user_by_email(&world.store, &user.email).await.unwrap();
    assert_eq!(by_email, Some((user.clone(), Some("other".into()))));
    assert_eq!(people::user_by_email(&world.store, "eve@example.com").await.unwrap(), None);
    let same = User { id: UserId::generate(), ..user.clone() };
    assert_eq!(people::user_insert(&world.store, &same, None).await.unwrap_err().code, "email_taken");
    let bob = crate::world::user("bob@example.com");
    people::user_insert(&world.store, &bob, None).await.unwrap();
    let same = User { email: user.email.clone(), ..bob.clone() };
    assert_eq!(people::user_update(&world.store, &same).await.unwrap_err().code, "email_taken");
    let missing = User { id: UserId::generate(), email: "eve@example.com".into(), ..same };
    assert_eq!(people::user_update(&world.store, &missing).await.unwrap_err().code, "changed_meanwhile");
    let missing = people::password_set(&world.store, missing.id, "x").await.unwrap_err();
    assert_eq!(missing.code, "changed_meanwhile");
    assert_eq!(people::users(&world.store, Page::default()).await.unwrap().items, [bob, user]);
}

async fn roles_are_given_changed_and_taken(world: World) {
    let (store, organisation, project, user) =
        (&world.store, world.organisation.id, world.project.id, world.user.id);
    for role in [Some(OrgRole::Member), Some(OrgRole::Owner), None] {
        people::org_role_set(store, organisation, user, role).await.unwrap();
        let membership = people::membership(store, user).await.unwrap();
        assert_eq!(
            membership.organisations,
            role.map(|role| (organisation, role)).into_iter().collect::<Vec<_>>()
        );
    }
    for role in [Some(ProjectRole::Viewer), Some(ProjectRole::Admin), None] {
        people::project_role_set(store, organisation, project, user, role).await.unwrap();
        let membership = people::membership(store, user).await.unwrap();
        let expected: Vec<_> = role.map(|role| (organisation, project, role)).into_iter().collect();
        assert_eq!(membership.projects, expected);
    }
    let nobody = people::org_role_set(store, organisation, UserId::generate(), Some(OrgRole::Owner)).await;
    assert_eq!(nobody.unwrap_err().code, "gone_meanwhile");
    people::project_role_set(store, organisation, project, user, Some(ProjectRole::Admin)).await.unwrap();
    people::project_roles_clear(store, OrganisationId::generate(), user).await.unwrap();
    assert_eq!(people::membership(store, user).await.unwrap().projects.len(), 1);
    people::project_roles_clear(store, organisation, user).await.unwrap();
    assert_eq!(people::membership(store, user).await.unwrap(), Membership::default());
}

async fn members_are_listed_with_their_roles(world: World) {
    let (store, organisation, project) = (&world.store, world.organisation.id, world.project.id);
    let bob = user("bob@example.com");
    people::user_insert(store, &bob, None).await.unwrap();
    for (user, role) in [(world.user.id, OrgRole::Owner), (bob.id, OrgRole::Member)] {
        people::org_role_set(store, organisation, user, Some(role)).await.unwrap();
    }
    people::project_role_set(store, organisation, project, bob.id, Some(ProjectRole::Viewer)).await.unwrap();
    let listed = people::members_of_org(store, organisation, Page::default()).await.unwrap();
    assert_eq!(listed.items, [(bob.clone(), OrgRole::Member), (world.user.clone(), OrgRole::Owner)]);
    let second = people::members_of_org(store, organisation, Page { page: 2, size: 1 }).await.unwrap();
    assert_eq!((second.items, second.total), (vec![(world.user.clone(), OrgRole::Owner)], 2));
    let listed = people::members_of_project(store, project, Page::default()).await.unwrap();
    assert_eq!(listed.items, [(bob, ProjectRole::Viewer)]);
}

async fn organisations_and_projects_have_names_of_their_own(world: World) {
    let store = &world.store;
    let mut other = organisation("Other");
    people::organisation_insert(store, &other).await.unwrap();
    let same = people::organisation_insert(store, &organisation("Acme")).await.unwrap_err();
    assert_eq!(same.code, "name_taken");
    assert!(same.message.contains("Acme"));
    assert_eq!(people::organisation_rename(store, other.id, "Acme").await.unwrap_err().code, "name_taken");
    people::organisation_rename(store, other.id, "Another").await.unwrap();
    other.name = "Another".into();
    assert_eq!(people::organisation(store, other.id).await.unwrap(), Some(other.clone()));
    let missing = people::organisation_rename(store, OrganisationId::generate(), "X").await.unwrap_err();
    assert_eq!(missing.code, "changed_meanwhile");
    let page = Page::default();
    assert_eq!(people::organisations(store, None, page).await.unwrap().total, 2);
    let one = people::organisations(store, Some(&[other.id]), page).await.unwrap();
    assert_eq!(one.items, [other.clone()]);

    // The same name is free in another organisation.
    let mut elsewhere = project(other.id, "Default");
    people::project_insert(store, &elsewhere).await.unwrap();
    let same = people::project_insert(store, &project(other.id, "Default")).await.unwrap_err();
    assert_eq!(same.code, "name_taken");
    people::project_rename(store, elsewhere.id, "Shop").await.unwrap();
    elsewhere.name = "Shop".into();
    assert_eq!(people::project(store, elsewhere.id).await.unwrap(), Some(elsewhere.clone()));
    let missing = people::project_rename(store, ProjectId::generate(), "X").await.unwrap_err();
    assert_eq!(missing.code, "changed_meanwhile");
    assert_eq!(people::projects(store, other.id, None, page).await.unwrap().items, [elsewhere]);
    assert_eq!(people::projects(store, other.id, Some(&[world.project.id]), page).await.unwrap().total, 0);
    let nowhere = project(OrganisationId::generate(), "X");
    assert_eq!(people::project_insert(store, &nowhere).await.unwrap_err().code, "gone_meanwhile");
}

/// The rule that the last owner stays, as its keeper asks it.
async fn whoever_decides_about_an_organisation_waits_for_another_who_does(world: World) {
    async fn leave(store: &Store, organisation: OrganisationId, user: UserId) {
        let tx = store.begin().await.unwrap();
        people::organisation_locked(&tx, organisation).await.unwrap().unwrap();
        let members = people::members_of_org(&tx, organisation, Page::default()).await.unwrap();
        if members.items.iter().filter(|(_, role)| *role == OrgRole::Owner).count() > 1 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            people::org_role_set(&tx, organisation, user, None).await.unwrap();
        }
        tx.commit().await.unwrap();
    }
    let bob = user("bob@example.com");
    people::user_insert(&world.store, &bob, None).await.unwrap();
    for id in [world.user.id, bob.id] {
        people::org_role_set(&world.store, world.organisation.id, id, Some(OrgRole::Owner)).await.unwrap();
    }
    let elsewhere = world.elsewhere().await;
    tokio::join!(
        leave(&world.store, world.organisation.id, world.user.id),
        leave(&elsewhere, world.organisation.id, bob.id)
    );
    let left = people::members_of_org(&world.store, world.organisation.id, Page::default()).await.unwrap();
    assert_eq!(left.total, 1);
}

async fn who_signs_in_comes_with_all_that_they_belong_to(world: World) {
    let (store, user, now) = (&world.store, world.user.id, now());
    let other = organisation("Other");
    people::organisation_insert(store, &other).await.unwrap();
    let projects = [(&other, "Shop"), (&other, "Club"), (&world.organisation, "Fair")];
    let projects = projects.map(|(of, name)| project(of.id, name));
    for project in &projects {
        people::project_insert(store, project).await.unwrap();
    }
    let token = ApiToken {
        id: TokenId::generate(),
        user_id: user,
        name: "ci".into(),
        organisation_id: None,
        scopes: None,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    };
    access::token_insert(store, &token, [7; 32]).await.unwrap();
    access::session_insert(store, [1; 32], user, now + SignedDuration::from_mins(1)).await.unwrap();
    let mut expected = Membership::default();
    for step in 0..=projects.len() {
        let (_, by_session) = access::session_user(store, [1; 32], now).await.unwrap().unwrap();
        let (_, _, by_token) = access::token_by_hash(store, [7; 32]).await.unwrap().unwrap();
        assert_eq!(by_session, expected, "step {step}");
        assert_eq!(by_token, expected, "step {step}");
        // Nobody's but their own: somebody else is in all of it.
        let Some(project) = projects.get(step) else { break };
        let of = project.organisation_id;
        let bob = crate::world::user(&format!("bob{step}@example.com"));
        people::user_insert(store, &bob, None).await.unwrap();
        for user in [user, bob.id] {
            people::org_role_set(store, of, user, Some(OrgRole::Member)).await.unwrap();
            people::project_role_set(store, of, project.id, user, Some(ProjectRole::Viewer)).await.unwrap();
        }
        expected.projects.push((of, project.id, ProjectRole::Viewer));
        expected.projects.sort_by_key(|(_, project, _)| *project);
        if !expected.organisations.contains(&(of, OrgRole::Member)) {
            expected.organisations.push((of, OrgRole::Member));
            expected.organisations.sort_by_key(|(organisation, _)| *organisation);
        }
    }
}

async fn a_session_ends(world: World) {
    let (store, user, now) = (&world.store, world.user.id, now());
    let minute = SignedDuration::from_mins(1);
    for hash in [[1; 32], [2; 32], [3; 32]] {
        access::session_insert(store, hash, user, now + minute).await.unwrap();
    }
    assert_eq!(access::session_user(store, [1; 32], now).await.unwrap().map(|found| found.0.id), Some(user));
    assert_eq!(access::session_user(store, [1; 32], now + minute).await.unwrap(), None);
    assert_eq!(access::session_user(store, [9; 32], now).await.unwrap(), None);
    access::session_delete(store, [1; 32]).await.unwrap();
    assert_eq!(access::session_user(store, [1; 32], now).await.unwrap(), None);
    access::prune(store, now).await.unwrap();
    assert_eq!(access::session_user(store, [2; 32], now).await.unwrap().map(|found| found.0.id), Some(user));
    access::prune(store, now + minute).await.unwrap();
    assert_eq!(access::session_user(store, [2; 32], now).await.unwrap(), None);
    access::session_insert(store, [4; 32], user, now + minute).await.unwrap();
    access::sessions_delete_of(store, user).await.unwrap();
    assert_eq!(access::session_user(store, [4; 32], now).await.unwrap(), None);
}

async fn a_token_is_read_back_revoked_and_its_use_noted(world: World) {
    let store = &world.store;
    let mut token = ApiToken {
        id: TokenId::generate(),
        user_id: world.user.id,
        name: "ci".into(),
        organisation_id: Some(world.organisation.id),
        scopes: Some(vec![Permission::BackupsView, Permission::BackupsCreate]),
        created_at: now(),
        expires_at: Some(now()),
        revoked_at: None,
        last_used_at: None,
    };
    access::token_insert(store, &token, [7; 32]).await.unwrap();
    assert_eq!(
        access::token_by_hash(store, [7; 32]).await.unwrap().map(|found| found.0),
        Some(token.clone())
    );
    assert_eq!(access::token_by_hash(store, [8; 32]).await.unwrap(), None);
    let used = now();
    let seconds = SignedDuration::from_secs;
    for (at, noted) in [(used, used), (used + seconds(59), used), (used + seconds(60), used + seconds(60))] {
        access::token_used(store, token.id, at).await.unwrap();
        token.last_used_at = Some(noted);
        assert_eq!(access::token(store, token.id).await.unwrap(), Some(token.clone()));
    }
    access::token_revoke(store, token.id, used).await.unwrap();
    token.revoked_at = Some(used);
    let again = access::token_revoke(store, token.id, now()).await.unwrap_err();
    assert_eq!(again.code, "changed_meanwhile");
    let all = ApiToken {
        id: TokenId::generate(),
        scopes: None,
        organisation_id: None,
        created_at: now(),
        ..token.clone()
    };
    access::token_insert(store, &all, [9; 32]).await.unwrap();
    let listed = access::tokens_of(store, world.user.id, Page::default()).await.unwrap();
    assert_eq!(listed.items, [all, token]);
}

fn link(purpose: &str, user_id: Option<UserId>, expires_at: Timestamp) -> Link {
    Link { purpose: purpose.into(), user_id, joins: None, expires_at }
}

async fn a_link_works_once_for_its_purpose(world: World) {
    let (store, now) = (&world.store, now());
    let end = now + SignedDuration::from_mins(1);
    let (setup, invitation) = (link("setup", None, end), link("invitation", Some(world.user.id), end));
    access::link_insert(store, [1; 32], &setup).await.unwrap();
    access::link_insert(store, [2; 32], &invitation).await.unwrap();
    assert_eq!(access::link_take(store, [1; 32], "invitation", now).await.unwrap(), None);
    assert_eq!(access::link_take(store, [1; 32], "setup", end).await.unwrap(), None);
    assert_eq!(access::link(store, [1; 32], "setup", now).await.unwrap(), Some(setup.clone()));
    assert_eq!(access::link_take(store, [1; 32], "setup", now).await.unwrap(), Some(setup.clone()));
    assert_eq!(access::link_take(store, [1; 32], "setup", now).await.unwrap(), None);
    assert_eq!(access::link(store, [1; 32], "setup", now).await.unwrap(), None);
    assert_eq!(access::link_take(store, [2; 32], "invitation", now).await.unwrap(), Some(invitation));
    access::link_insert(store, [3; 32], &setup).await.unwrap();
    access::links_delete_for(store, "setup").await.unwrap();
    assert_eq!(access::link_take(store, [3; 32], "setup", now).await.unwrap(), None);
}

async fn links_of_somebody_are_voided_by_what_they_are_for(world: World) {
    let (store, user, end) = (&world.store, world.user.id, now() + SignedDuration::from_mins(1));
    let joins =
        Link { joins: Some((world.organisation.id, OrgRole::Admin)), ..link("invitation", Some(user), end) };
    let left = async || {
        let of = async |hash| access::link(store, [hash; 32], "invitation", now()).await.unwrap();
        [of(1).await.is_some(), of(2).await == Some(joins.clone())]
    };
    let made = async || {
        access::links_delete_of(store, user, LinksOf::Any).await.unwrap();
        access::link_insert(store, [1; 32], &link("invitation", Some(user), end)).await.unwrap();
        access::link_insert(store, [2; 32], &joins).await.unwrap();
    };
    made().await;
    access::links_delete_of(store, user, LinksOf::Account).await.unwrap();
    assert_eq!(left().await, [false, true]);
    made().await;
    access::links_delete_of(store, user, LinksOf::Joining(world.organisation.id)).await.unwrap();
    assert_eq!(left().await, [true, false]);
    access::links_delete_of(store, user, LinksOf::Any).await.unwrap();
    assert_eq!(left().await, [false, false]);
}

async fn of_many_that_use_a_link_one_succeeds(world: World) {
    let end = now() + SignedDuration::from_mins(1);
    access::link_insert(&world.store, [1; 32], &link("setup", None, end)).await.unwrap();
    let mut users = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = world.store.clone();
        users.spawn(async move { access::link_take(&store, [1; 32], "setup", now()).await.unwrap() });
    }
    assert_eq!(users.join_all().await.iter().flatten().count(), 1);
}
