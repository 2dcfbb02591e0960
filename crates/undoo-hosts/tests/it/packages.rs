//! Python packages of an environment's addons, installed by the pip of its image and used by its Odoo.

use undoo_core::Kind;
use undoo_hosts::deploy::{Did, Part, make_durable, put_addons, put_requirements, release};
use undoo_testing::greeter::{self, WITH_PIP};

use crate::{
    deploy::{Deploying, did, note, silently},
    support::{self, Sandbox},
};

support::trials![
    a_module_finds_the_package_that_came_with_it_as_a_wheel,
    an_image_without_pip_is_told_from_packages_that_cannot_be_had,
];

const WITHOUT_PIP: &str = "undoo-test-odoo-without-pip:19.0";

/// Addons as they come from a backup: a module that needs the package, and the wheel beside it.
fn addons() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in greeter::files() {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &content[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

async fn a_module_finds_the_package_that_came_with_it_as_a_wheel(sandbox: Sandbox) {
    greeter::odoo_with_pip();
    let mut it = Deploying::new(&sandbox).await;
    it.deployment.odoo_image = WITH_PIP.into();
    // Nobody answers there: what is installed came from the wheel, or was there.
    it.deployment.pip_index = Some("http://user:s3cret-index@127.0.0.1:9/simple".to_owned().into());
    it.infrastructure().await;
    let (docker, deployment) = (&it.docker, &it.deployment);
    let packages = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();

    let archive = addons();
    put_addons(docker, deployment, futures_util::stream::iter([Ok(archive.into())])).await.unwrap();
    // As manifests and requirements.txt have them: packages, versions, and names of modules to import.
    let asked = packages(&["undoo-greeting==1.0", "undoo-greeting", "dateutil", "requests", "lxml>=4"]);
    let mut all = Vec::new();
    for _ in 0..2 {
        put_requirements(docker, deployment, &asked, &mut note(&mut all)).await.unwrap();
    }
    assert_eq!(did(&all, Part::Packages), [Did::Made, Did::Found]);
    let files = it.folder(&sandbox).await;
    assert!(
        files.contains("undoo_greeting.py") && !files.contains("lxml"),
        "what the image has stays its own: {files}"
    );

    // What cannot be had leaves what there was.
    let more = packages(&["undoo-greeting==1.0", "undoo-no-such-package==9"]);
    let problem = put_requirements(docker, deployment, &more, &mut silently()).await.unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Unavailable, "requirements_failed"), "{problem}");
    assert!(problem.message.contains("undoo-no-such-package"), "{}", problem.message);
    assert!(!problem.message.contains("s3cret"), "{}", problem.message);
    assert!(it.folder(&sandbox).await.contains("undoo_greeting.py"));

    make_durable(docker, deployment, &mut silently()).await.unwrap();
    it.make_database(&sandbox, "base,undoo_greeter").await;
    release(docker, deployment, &mut silently()).await.unwrap();
    let names = &deployment.names;
    let words = ["python3", "-c", "import undoo_greeting; print(undoo_greeting.WORDS)"];
    assert_eq!(sandbox.exec(&names.odoo(), &words).await, (0, "good morning\n".to_owned()));
    let sql = "SELECT state FROM ir_module_module WHERE name = 'undoo_greeter'";
    let (_, state) =
        sandbox.exec(&names.db(), &["psql", "-U", "odoo", "-d", &deployment.database, "-Atc", sql]).await;
    assert_eq!(state.trim(), "installed");

    // Nothing is asked for any more.
    let mut all = Vec::new();
    put_requirements(docker, deployment, &[], &mut note(&mut all)).await.unwrap();
    assert_eq!(did(&all, Part::Packages), [Did::Replaced]);
    assert!(!it.folder(&sandbox).await.contains("undoo_greeting.py"));
}

async fn an_image_without_pip_is_told_from_packages_that_cannot_be_had(sandbox: Sandbox) {
    greeter::odoo_with(WITHOUT_PIP, "rm -rf /usr/lib/python3/dist-packages/pip");
    let mut it = Deploying::new(&sandbox).await;
    it.deployment.odoo_image = WITHOUT_PIP.into();
    it.infrastructure().await;
    let asked = ["undoo-greeting==1.0".to_owned()];
    let problem = put_requirements(&it.docker, &it.deployment, &asked, &mut silently()).await.unwrap_err();
    assert_eq!((problem.kind, problem.code), (Kind::Invalid, "pip_missing"), "{problem}");
    assert!(problem.message.contains(WITHOUT_PIP), "{}", problem.message);
    // Who asks for nothing needs no pip.
    put_requirements(&it.docker, &it.deployment, &[], &mut silently()).await.unwrap();
}
