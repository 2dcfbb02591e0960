//! Who comes in, and how.

use secrecy::ExposeSecret;
use undoo_control::{NewToken, Setup};
use undoo_core::platform::{OrgRole, Permission};

use crate::world::{FIRST, World, caller, on_both};

on_both!(
    the_platform_is_set_up_once,
    a_password_signs_in_and_guessing_is_slowed_down,
    an_invitation_works_once,
    a_token_does_what_it_is_for_until_it_is_revoked,
    the_last_owner_stays,
);

async fn the_platform_is_set_up_once(world: World) {
    assert!(world.control.first_start().await.unwrap().is_none());
    let setup = Setup {
        email: "eve@example.com".into(),
        name: "Eve".into(),
        password: "short".into(),
        organisation_name: "Evil".into(),
    };
    let refused = world.control.setup(&"undoo_guess".into(), setup).await.unwrap_err();
    assert_eq!(refused.code, "link_invalid", "before anything else is looked at");
    let servers = world.control.server_list(&world.admin, world.organisation, FIRST).await.unwrap();
    let storages = world.control.storage_list(&world.admin, world.organisation, FIRST).await.unwrap();
    assert_eq!((servers.total, storages.total), (1, 1));
    assert!(storages.items[0].is_default);
}

async fn a_password_signs_in_and_guessing_is_slowed_down(world: World) {
    let (session, user) = world.control.sign_in(" ADA@example.com", "correct horse".into()).await.unwrap();
    assert_eq!(user.id, world.admin.user.id);
    world.control.sign_out(&session).await.unwrap();
    let gone = world.control.caller_of_session(session.expose_secret(), "r").await.unwrap_err();
    assert_eq!(gone.code, "not_signed_in");
    for _ in 0..6 {
        let wrong = world.control.sign_in("ada@example.com", "wrong horse".into()).await.unwrap_err();
        assert_eq!(wrong.code, "wrong_login");
    }
    let slowed = world.control.sign_in("ada@example.com", "correct horse".into()).await.unwrap_err();
    assert_eq!(slowed.code, "too_many_attempts");
    let unknown = world.control.sign_in("nobody@example.com", "wrong horse".into()).await.unwrap_err();
    assert_eq!(unknown.code, "wrong_login", "it is not told whether there is such a user");
}

async fn an_invitation_works_once(world: World) {
    let new = undoo_control::NewUser {
        email: "bob@example.com".into(),
        name: "Bob".into(),
        organisation_id: world.organisation,
        role: OrgRole::Member,
    };
    let invitation = world.control.user_create(&world.admin, new.clone()).await.unwrap().token;
    let weak = world.control.invitation_accept(&invitation, "short".into()).await.unwrap_err();
    assert_eq!(weak.code, "password_weak");
    world.control.invitation_accept(&invitation, "correct horse".into()).await.unwrap();
    let again = world.control.invitation_accept(&invitation, "other horses".into()).await.unwrap_err();
    assert_eq!(again.code, "link_invalid");
    assert_eq!(world.control.user_create(&world.admin, new).await.unwrap_err().code, "email_taken");
}

async fn a_token_does_what_it_is_for_until_it_is_revoked(world: World) {
    let new = NewToken {
        name: "looks".into(),
        organisation_id: Some(world.organisation),
        scopes: Some(vec![Permission::EnvironmentsView]),
        expires_in_days: Some(1),
    };
    let (token, secret) = world.control.token_create(&world.admin, new).await.unwrap();
    let come_in = || world.control.caller_of_token(secret.expose_secret(), "r");
    let program = come_in().await.unwrap();
    world.control.environment_get(&program, world.production.id).await.unwrap();
    let denied = world.control.environment_delete(&program, world.production.id).await.unwrap_err();
    assert_eq!(denied.code, "missing_permission");
    let more = NewToken { name: "more".into(), organisation_id: None, scopes: None, expires_in_days: None };
    assert_eq!(world.control.token_create(&program, more).await.unwrap_err().code, "session_needed");
    let admins =
        NewToken { name: "admin's".into(), organisation_id: None, scopes: None, expires_in_days: None };
    let (other, _) = world.control.token_create(&world.admin, admins).await.unwrap();
    assert_eq!(world.control.token_list(&program, FIRST).await.unwrap().items[0].id, token.id);
    assert_eq!(world.control.token_list(&program, FIRST).await.unwrap().total, 1, "of itself alone");
    assert_eq!(world.control.token_revoke(&program, other.id).await.unwrap_err().code, "session_needed");
    world.control.token_revoke(&program, token.id).await.unwrap();
    assert_eq!(come_in().await.unwrap_err().code, "not_signed_in");
    assert_eq!(world.control.token_list(&world.admin, FIRST).await.unwrap().total, 2);
}

async fn the_last_owner_stays(world: World) {
    let ada = world.admin.user.id;
    let last = world.control.member_set(&world.admin, world.organisation, ada, OrgRole::Admin).await;
    assert_eq!(last.unwrap_err().code, "last_owner");
    let (session, bob) = world.member("bob@example.com", OrgRole::Admin).await;
    let bob_ = caller(&world.control, &session).await;
    let own = world.control.member_set(&bob_, world.organisation, bob.id, OrgRole::Owner).await;
    assert_eq!(own.unwrap_err().code, "owner_needed");
    world.control.member_set(&world.admin, world.organisation, bob.id, OrgRole::Owner).await.unwrap();
    world.control.member_remove(&world.admin, world.organisation, ada).await.unwrap();
    assert_eq!(world.members().await, 1);
}
