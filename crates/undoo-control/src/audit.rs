//! Reading the audit log. It is written by [`Control::note`], and never changed.

use undoo_core::{
    OrganisationId, Result,
    platform::{Permission, Scope},
};
use undoo_store::{Listed, Page, audit::AuditEntry};

use crate::{Caller, Control, control::Named};

impl Control {
    /// An organisation's audit log, newest first.
    ///
    /// # Errors
    /// As [`Control::allow`], for `org.audit.view`.
    pub async fn audit_list(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        page: Page,
    ) -> Result<Listed<AuditEntry>> {
        let scope = Scope::Organisation(organisation);
        self.allow(caller, Permission::OrgAuditView, scope, &Named("organisation", organisation))?;
        undoo_store::audit::list(&self.store, organisation, page).await
    }

    /// How many entries an organisation's audit log has, after its chain was found unbroken.
    ///
    /// # Errors
    /// As [`Control::audit_list`]; `Invalid` with the place where the chain is broken.
    pub async fn audit_verify(&self, caller: &Caller, organisation: OrganisationId) -> Result<u64> {
        let scope = Scope::Organisation(organisation);
        self.allow(caller, Permission::OrgAuditView, scope, &Named("organisation", organisation))?;
        undoo_store::audit::verify(&self.store, organisation).await
    }
}
