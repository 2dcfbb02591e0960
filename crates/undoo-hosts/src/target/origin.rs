//! What a backup says about an Odoo besides its data: modules that are not of its image, and the image.

use std::path::Path;

use undoo_core::Result;

use super::OdooContainer;
use crate::docker::{Docker, problem};

impl OdooContainer {
    /// Folders of modules that are mounted into the container, as paths inside it: all on its addons path
    /// that are not part of its image. Some may not exist.
    pub fn custom_addons(&self) -> Vec<String> {
        let inside = |path: &String| Path::new(&self.working_dir).join(path);
        let paths: Vec<_> = self.conf.addons_path.iter().map(inside).collect();
        let mounted = |path: &Path| path.to_str().is_some_and(|path| self.mount_of(path).is_some());
        let mut found: Vec<_> = paths.iter().filter(|path| mounted(path)).cloned().collect();
        // Odoo looks here without being told (`addons_data_dir`).
        if let Some(version) = &self.odoo_version {
            let own = Path::new(&self.conf.data_dir).join("addons").join(version);
            found.extend(mounted(&own).then_some(own));
        }
        // Single modules, mounted among those of the image.
        let mounts = self.mounts.iter().map(|mount| Path::new(&mount.destination).to_owned());
        found.extend(mounts.filter(|mount| {
            mount.parent().is_some_and(|parent| paths.iter().any(|path| path == parent && !mounted(path)))
        }));
        // Whatever else the addons path says, the data are no modules.
        found.retain(|path| !Path::new(&self.filestore_root).starts_with(path));
        found.sort();
        found.dedup();
        found.iter().filter_map(|path| path.to_str().map(str::to_owned)).collect()
    }
}

/// By what an image can be had again: its digest in a registry, else its own id.
///
/// # Errors
/// Those of the engine.
pub async fn image_digest(docker: &Docker, image_id: &str) -> Result<String> {
    let found = docker
        .engine()
        .inspect_image(image_id)
        .await
        .map_err(|error| problem(error, || format!("inspecting the image {image_id}")))?;
    let digest = found.repo_digests.into_iter().flatten().next();
    Ok(digest.or(found.id).unwrap_or_else(|| image_id.to_owned()))
}
