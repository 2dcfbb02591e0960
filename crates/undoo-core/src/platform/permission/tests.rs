//! The document's two tables of roles and permissions, and what holds for every role.

use super::*;

struct World {
    organisation: OrganisationId,
    project: ProjectId,
    other: OrganisationId,
}

impl World {
    fn new() -> Self {
        let (organisation, other) = (OrganisationId::generate(), OrganisationId::generate());
        Self { organisation, project: ProjectId::generate(), other }
    }

    fn grants(&self, role: Role) -> Grants {
        let mut membership = Membership::default();
        let mut in_organisation = |role| membership.organisations.push((self.organisation, role));
        match role {
            Role::PortalAdmin => {}
            Role::OrgOwner => in_organisation(OrgRole::Owner),
            Role::OrgAdmin => in_organisation(OrgRole::Admin),
            Role::ProjectAdmin | Role::ProjectMember | Role::Viewer => {
                in_organisation(OrgRole::Member);
                let role = match role {
                    Role::ProjectAdmin => ProjectRole::Admin,
                    Role::ProjectMember => ProjectRole::Member,
                    _ => ProjectRole::Viewer,
                };
                membership.projects.push((self.organisation, self.project, role));
            }
        }
        Grants::new(role == Role::PortalAdmin, &membership)
    }

    fn restore(&self, role: Role, kind: EnvironmentType) -> Decision {
        let scope = Scope::Environment(self.organisation, self.project, kind);
        self.grants(role).decide(Permission::BackupsRestore, scope)
    }
}

/// The source document's table "Recommended Role Configuration".
#[test]
fn who_restores_is_as_documented() {
    let world = World::new();
    for kind in EnvironmentType::ALL {
        for role in [Role::PortalAdmin, Role::OrgOwner, Role::OrgAdmin, Role::ProjectAdmin] {
            assert_eq!(world.restore(role, *kind), Decision::Granted, "{role} to {kind}");
        }
        let denied = Decision::Denied(Permission::BackupsRestore);
        assert_eq!(world.restore(Role::Viewer, *kind), denied);
        let member = if *kind == EnvironmentType::Production { denied } else { Decision::Granted };
        assert_eq!(world.restore(Role::ProjectMember, *kind), member, "to {kind}");
    }
}

/// The source document's table "Required Permissions for Restore Operations", and the codes in it.
#[test]
fn the_permissions_of_restoring_have_the_documented_codes() {
    let codes = [
        (Permission::BackupsRestore, "project.backups.restore"),
        (Permission::EnvironmentsCreate, "project.environments.create"),
        (Permission::OrgServersView, "org.servers.view"),
        (Permission::BackupsView, "project.backups.view"),
        (Permission::OrgBackupsList, "org.backups.list"),
    ];
    for (permission, code) in codes {
        assert_eq!(permission.as_str(), code);
        assert_eq!(code.parse::<Permission>(), Ok(permission));
    }
}

#[test]
fn another_organisation_is_unseen_and_another_project_is_denied() {
    let world = World::new();
    for role in [Role::OrgOwner, Role::OrgAdmin, Role::ProjectAdmin, Role::ProjectMember, Role::Viewer] {
        let grants = world.grants(role);
        for permission in Permission::ALL {
            let of_others = Scope::Project(world.other, ProjectId::generate());
            assert_eq!(grants.decide(*permission, of_others), Decision::Unseen, "{role}");
            let same_project_claimed_for_others = Scope::Project(world.other, world.project);
            assert_eq!(grants.decide(*permission, same_project_claimed_for_others), Decision::Unseen);
        }
        let neighbour = Scope::Project(world.organisation, ProjectId::generate());
        let seen = grants.decide(Permission::BackupsView, neighbour);
        let over_all = matches!(role, Role::OrgOwner | Role::OrgAdmin);
        let expected = if over_all { Decision::Granted } else { Decision::Denied(Permission::BackupsView) };
        assert_eq!(seen, expected, "{role}");
    }
}

#[test]
fn a_token_can_do_no_more_than_its_user_nor_than_it_says() {
    let world = World::new();
    let scope = Scope::Project(world.organisation, world.project);
    let viewer = world.grants(Role::Viewer).limited(Some(&[Permission::BackupsRestore]), None);
    assert_eq!(
        viewer.decide(Permission::BackupsRestore, scope),
        Decision::Denied(Permission::BackupsRestore)
    );
    assert_eq!(viewer.decide(Permission::BackupsView, scope), Decision::Denied(Permission::BackupsView));
    let elsewhere = world.grants(Role::PortalAdmin).limited(None, Some(world.other));
    assert_eq!(elsewhere.decide(Permission::BackupsView, scope), Decision::Unseen);
    assert_ne!(elsewhere.decide(Permission::PlatformManage, Scope::Platform), Decision::Granted);
}

#[test]
fn a_role_has_all_that_the_one_below_it_has() {
    for pair in Role::ALL.windows(2) {
        for permission in Permission::ALL {
            assert!(pair[0].has(*permission) || !pair[1].has(*permission), "{permission}: {pair:?}");
        }
    }
}

#[test]
fn lists_are_bounded_by_what_one_belongs_to() {
    let world = World::new();
    let viewer = world.grants(Role::Viewer);
    assert_eq!(viewer.organisations(), Some(vec![world.organisation]));
    assert_eq!(viewer.projects(world.organisation), Some(vec![world.project]));
    assert_eq!(world.grants(Role::OrgAdmin).projects(world.organisation), None);
    assert_eq!(world.grants(Role::PortalAdmin).organisations(), None);
    assert_eq!(viewer.projects(world.other), Some(Vec::new()));
}
