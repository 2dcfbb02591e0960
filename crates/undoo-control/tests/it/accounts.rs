//! Accounts: who may disable them and let them in, and that no link opens more than its maker could.

use secrecy::{ExposeSecret, SecretString};
use undoo_control::{Caller, NewToken, NewUser, UserChange};
use undoo_core::{
    OrganisationId, Result, UserId,
    platform::{OrgRole, Permission, ProjectRole, User},
};

use crate::world::{FIRST, World, caller, on_both};

on_both!(
    a_disabled_account_is_out_at_once_and_its_tokens_for_good,
    an_account_is_administered_by_who_administers_all_that_it_is_in,
    the_last_owner_and_the_last_portal_admin_stay_able_to_sign_in,
    a_new_link_voids_the_one_before_and_signs_out_when_it_is_used,
    an_address_belongs_to_who_comes_with_a_link_and_not_to_who_invited_first,
    a_link_into_an_organisation_changes_no_password,
    a_token_changes_people_only_by_name,
    who_has_the_database_lets_the_last_admin_in,
);

const DISABLED: UserChange = UserChange { disabled: Some(true), portal_admin: None };
const ENABLED: UserChange = UserChange { disabled: Some(false), portal_admin: None };
const PORTAL_ADMIN: UserChange = UserChange { disabled: None, portal_admin: Some(true) };

fn code<T>(result: Result<T>) -> &'static str {
    result.map_or_else(|problem| problem.code, |_| "fine")
}

fn to(organisation_id: OrganisationId, email: &str, role: OrgRole) -> NewUser {
    NewUser { email: email.into(), name: "Somebody".into(), organisation_id, role }
}

impl World {
    /// Another organisation, and its owner.
    async fn other(&self) -> (OrganisationId, Caller) {
        let other = self.control.organisation_create(&self.admin, "Other").await.unwrap().id;
        let owner = to(other, "olga@example.com", OrgRole::Owner);
        let link = self.control.user_create(&self.admin, owner).await.unwrap().token;
        let (session, _) = self.control.invitation_accept(&link, "correct horse".into()).await.unwrap();
        (other, caller(&self.control, &session).await)
    }

    async fn role(&self, user: UserId, organisation: OrganisationId) -> Option<OrgRole> {
        let theirs = undoo_store::people::membership(self.control.store(), user).await.unwrap();
        theirs.organisations.into_iter().find(|(of, _)| *of == organisation).map(|(_, role)| role)
    }

    async fn comes_in(&self, session: &SecretString) -> &'static str {
        code(self.control.caller_of_session(session.expose_secret(), "r").await)
    }

    async fn signs_in(&self, user: &User, password: &str) -> &'static str {
        code(self.control.sign_in(&user.email, password.into()).await)
    }

    async fn actions(&self) -> Vec<String> {
        let listed = self.control.audit_list(&self.admin, self.organisation, FIRST).await.unwrap();
        listed.items.into_iter().map(|entry| entry.action).collect()
    }
}

async fn a_disabled_account_is_out_at_once_and_its_tokens_for_good(world: World) {
    let control = &world.control;
    let (session, bob) = world.member("bob@example.com", OrgRole::Member).await;
    let new = NewToken { name: "t".into(), organisation_id: None, scopes: None, expires_in_days: None };
    let (_, token) = control.token_create(&caller(control, &session).await, new).await.unwrap();
    let link = control.user_invite(&world.admin, bob.id).await.unwrap().token;
    assert!(control.user_update(&world.admin, bob.id, DISABLED).await.unwrap().disabled_at.is_some());
    let by_token = async || code(control.caller_of_token(token.expose_secret(), "r").await);
    assert_eq!((world.comes_in(&session).await, by_token().await), ("not_signed_in", "not_signed_in"));
    assert_eq!(world.signs_in(&bob, "correct horse").await, "wrong_login");
    assert_eq!(code(control.user_invite(&world.admin, bob.id).await), "user_disabled");
    control.user_update(&world.admin, bob.id, ENABLED).await.unwrap();
    assert_eq!(world.signs_in(&bob, "correct horse").await, "fine");
    assert_eq!((world.comes_in(&session).await, by_token().await), ("not_signed_in", "not_signed_in"));
    assert_eq!(code(control.invitation_accept(&link, "another horse".into()).await), "link_invalid");
    let changes = world.actions().await.iter().filter(|action| *action == "user.changed").count();
    assert_eq!(changes, 2);
}

async fn an_account_is_administered_by_who_administers_all_that_it_is_in(world: World) {
    let control = &world.control;
    let (other, olga) = world.other().await;
    let (session, adam) = world.member("adam@example.com", OrgRole::Admin).await;
    let adam_ = caller(control, &session).await;
    let (_, bob) = world.member("bob@example.com", OrgRole::Member).await;
    let (_, owner) = world.member("owner@example.com", OrgRole::Owner).await;
    let viewer = world.somebody("viewer@example.com", Some(ProjectRole::Viewer)).await;
    let disables = async |by: &Caller, whom: UserId| {
        let done = code(control.user_update(by, whom, DISABLED).await);
        assert_eq!(done, code(control.user_invite(by, whom).await).replace("user_disabled", "fine"));
        drop(control.user_update(&world.admin, whom, ENABLED).await);
        done
    };
    assert_eq!(disables(&adam_, bob.id).await, "fine");
    assert_eq!(disables(&viewer, bob.id).await, "missing_permission");
    assert_eq!(disables(&olga, bob.id).await, "not_found", "it is not told that there is such a user");
    assert_eq!(disables(&olga, UserId::generate()).await, "not_found");
    assert_eq!(disables(&adam_, adam.id).await, "own_account");
    assert_eq!(disables(&adam_, owner.id).await, "owner_needed");
    assert_eq!(disables(&adam_, world.admin.user.id).await, "portal_admin_needed");
    let link = control.user_invite(&adam_, bob.id).await.unwrap().token;
    control.member_set(&world.admin, other, bob.id, OrgRole::Member).await.unwrap();
    let late = control.invitation_accept(&link, "adams horses".into()).await;
    assert_eq!(code(late), "link_invalid", "Adam could not make it any more");
    assert_eq!(disables(&adam_, bob.id).await, "account_elsewhere");
    assert_eq!(disables(&olga, bob.id).await, "account_elsewhere");
    assert_eq!(disables(&world.admin, bob.id).await, "fine");
    assert_eq!(code(control.user_update(&adam_, adam.id, PORTAL_ADMIN).await), "own_account");
    control.member_remove(&world.admin, other, bob.id).await.unwrap();
    assert_eq!(code(control.user_update(&adam_, bob.id, PORTAL_ADMIN).await), "missing_permission");
    control.member_remove(&world.admin, world.organisation, bob.id).await.unwrap();
    assert_eq!(disables(&adam_, bob.id).await, "not_found");
    assert_eq!(disables(&world.admin, bob.id).await, "fine");
    assert_eq!(code(control.user_get(&adam_, owner.id).await), "fine");
    assert_eq!(code(control.user_get(&viewer, owner.id).await), "missing_permission");
    assert_eq!(code(control.user_get(&olga, owner.id).await), "not_found");
}

async fn the_last_owner_and_the_last_portal_admin_stay_able_to_sign_in(world: World) {
    let (control, ada) = (&world.control, world.admin.user.id);
    let (session, bob) = world.member("bob@example.com", OrgRole::Member).await;
    control.user_update(&world.admin, bob.id, PORTAL_ADMIN).await.unwrap();
    let bob_ = caller(control, &session).await;
    assert_eq!(code(control.user_update(&bob_, ada, DISABLED).await), "last_owner");
    control.member_set(&world.admin, world.organisation, bob.id, OrgRole::Owner).await.unwrap();
    control.user_update(&bob_, ada, DISABLED).await.unwrap();
    // An owner who cannot sign in is none to rely on.
    let left = control.member_remove(&bob_, world.organisation, bob.id).await;
    assert_eq!(code(left), "last_owner");
    // Two who disable each other in the same moment: the second one finds out.
    control.organisation_create(&bob_, "Bobs").await.unwrap();
    control.user_update(&bob_, ada, ENABLED).await.unwrap();
    let (carol, _) = world.member("carol@example.com", OrgRole::Owner).await;
    let carol = caller(control, &carol).await;
    control.user_update(&bob_, carol.user.id, PORTAL_ADMIN).await.unwrap();
    let carol = Caller { grants: bob_.grants.clone(), ..carol };
    let demoted = UserChange { disabled: None, portal_admin: Some(false) };
    control.user_update(&carol, ada, demoted).await.unwrap();
    control.user_update(&bob_, carol.user.id, demoted).await.unwrap();
    assert_eq!(code(control.user_update(&carol, bob.id, demoted).await), "last_portal_admin");
}

async fn a_new_link_voids_the_one_before_and_signs_out_when_it_is_used(world: World) {
    let control = &world.control;
    let (session, bob) = world.member("bob@example.com", OrgRole::Member).await;
    let first = control.user_invite(&world.admin, bob.id).await.unwrap().token;
    let second = control.user_invite(&world.admin, bob.id).await.unwrap();
    assert!(second.expires_at > second.user.as_ref().unwrap().created_at);
    assert_eq!(code(control.invitation_accept(&first, "short".into()).await), "link_invalid");
    assert_eq!(world.signs_in(&bob, "correct horse").await, "fine");
    assert_eq!(world.comes_in(&session).await, "fine");
    let weak = control.invitation_accept(&second.token, "short".into()).await;
    assert_eq!(code(weak), "password_weak", "and the link still holds");
    control.invitation_accept(&second.token, "another horse".into()).await.unwrap();
    assert_eq!(world.comes_in(&session).await, "not_signed_in");
    assert_eq!(world.signs_in(&bob, "correct horse").await, "wrong_login");
    assert_eq!(world.signs_in(&bob, "another horse").await, "fine");
    let actions = world.actions().await;
    assert!(["user.link_made", "user.password_set"].iter().all(|one| actions.iter().any(|a| a == one)));
}

async fn an_address_belongs_to_who_comes_with_a_link_and_not_to_who_invited_first(world: World) {
    let control = &world.control;
    let (other, olga) = world.other().await;
    let boss = to(world.organisation, "boss@example.com", OrgRole::Owner);
    let ours = control.user_create(&world.admin, boss).await.unwrap();
    let account = control.user_invite(&world.admin, ours.user.as_ref().unwrap().id).await.unwrap().token;
    // Somebody else's owner invites the same address. They are told its existence, and nothing else.
    let invite = || to(other, "boss@example.com", OrgRole::Member);
    let void = control.user_create(&olga, invite()).await.unwrap().token;
    let theirs = control.user_create(&olga, invite()).await.unwrap();
    assert!(theirs.user.is_none() && theirs.email == "boss@example.com");
    assert_eq!(code(control.invitation_accept(&void, "olgas horses".into()).await), "link_invalid");
    let id = ours.user.unwrap().id;
    assert_eq!(world.role(id, other).await, None, "before they accept");
    // Whoever uses Olga's link gets into Olga's organisation, and not into ours.
    control.invitation_accept(&theirs.token, "olgas horses".into()).await.unwrap();
    assert_eq!(world.role(id, other).await, Some(OrgRole::Member));
    assert_eq!(world.role(id, world.organisation).await, None);
    // Nor does a link for the account that we made before open what is Olga's now.
    assert_eq!(code(control.invitation_accept(&account, "our horses!".into()).await), "link_invalid");
    assert_eq!(code(control.invitation_accept(&ours.token, "our horses!".into()).await), "wrong_password");
    control.invitation_accept(&ours.token, "olgas horses".into()).await.unwrap();
    assert_eq!(world.role(id, world.organisation).await, Some(OrgRole::Owner));
}

async fn a_link_into_an_organisation_changes_no_password(world: World) {
    let control = &world.control;
    let (other, olga) = world.other().await;
    let (session, bob) = world.member("bob@example.com", OrgRole::Admin).await;
    let invited = control.user_create(&olga, to(other, "Bob@Example.com", OrgRole::Member)).await.unwrap();
    let account = control.user_invite(&world.admin, bob.id).await.unwrap().token;
    for _ in 0..6 {
        let guessed = control.invitation_accept(&invited.token, "olga guesses".into()).await;
        assert_eq!(code(guessed), "wrong_password");
    }
    let slowed = control.invitation_accept(&invited.token, "correct horse".into()).await;
    assert_eq!(code(slowed), "too_many_attempts");
    world.later(1);
    // Time has passed, and the link and the session hold.
    control.invitation_accept(&invited.token, "correct horse".into()).await.unwrap();
    assert_eq!(world.role(bob.id, other).await, Some(OrgRole::Member));
    assert_eq!(world.role(bob.id, world.organisation).await, Some(OrgRole::Admin));
    assert_eq!(world.comes_in(&session).await, "fine");
    let late = control.invitation_accept(&account, "late horses".into()).await;
    assert_eq!(code(late), "link_invalid", "it was made when the account was in one organisation");
    let again = control.user_create(&olga, to(other, "bob@example.com", OrgRole::Owner)).await;
    assert_eq!(code(again), "email_taken");
}

async fn a_token_changes_people_only_by_name(world: World) {
    let control = &world.control;
    let (_, bob) = world.member("bob@example.com", OrgRole::Member).await;
    let new = NewToken { name: "t".into(), organisation_id: None, scopes: None, expires_in_days: None };
    let (_, token) = control.token_create(&world.admin, new).await.unwrap();
    let whole = control.caller_of_token(token.expose_secret(), "r").await.unwrap();
    let all = async |by: &Caller, email: &str| {
        let (organisation, project) = (world.organisation, world.project);
        [
            code(control.user_create(by, to(organisation, email, OrgRole::Admin)).await),
            code(control.user_invite(by, bob.id).await),
            code(control.user_update(by, bob.id, ENABLED).await),
            code(control.member_set(by, organisation, bob.id, OrgRole::Member).await),
            code(control.project_member_set(by, project, bob.id, ProjectRole::Viewer).await),
        ]
    };
    assert_eq!(all(&whole, "a@example.com").await, ["scope_needed"; 5]);
    let named = world.program(&[Permission::OrgMembersManage, Permission::ProjectMembersManage]).await;
    assert_eq!(all(&named, "b@example.com").await, ["fine"; 5]);
    assert_eq!(code(control.user_update(&named, bob.id, PORTAL_ADMIN).await), "scope_needed");
}

async fn who_has_the_database_lets_the_last_admin_in(world: World) {
    let control = &world.control;
    let link = control.user_invite_here(" ADA@example.com").await.unwrap();
    assert_eq!(link.email, "ada@example.com");
    control.invitation_accept(&link.token, "another horse".into()).await.unwrap();
    assert_eq!(world.signs_in(&world.admin.user, "another horse").await, "fine");
    assert_eq!(code(control.user_invite_here("nobody@example.com").await), "not_found");
    let entries = control.audit_list(&world.admin, world.organisation, FIRST).await.unwrap().items;
    let made = entries.iter().find(|entry| entry.action == "user.link_made").unwrap();
    assert_eq!(made.actor, None, "nobody of the platform");
}
