"use strict";

const WORD = "RESTORE";
const ASKS = {
  me: "/api/v1/auth/me",
  login: "/api/v1/auth/login",
  logout: "/api/v1/auth/logout",
  environment: "/api/v1/environments/{environment_id}",
  deploy: "/api/v1/environments/{environment_id}/deploy",
  migration: "/api/v1/migrations/{migration_id}",
  tasks: "/api/v1/tasks",
  task: "/api/v1/tasks/{task_id}",
};
const OVER = ["completed", "failed", "cancelled", "stuck"];
const ENDS = {
  completed: "Done.",
  failed: "It failed. What it did is taken back.",
  cancelled: "It was cancelled. What it did is taken back.",
  stuck: "It could be brought to no end: a person has to look.",
};
// What a migration says while its environment cannot be deployed.
const NOT_YET = {
  pending: "Nothing of its backup was uploaded yet.",
  uploading: "Its backup is being uploaded.",
  verifying: "Its backup is being read from end to end.",
  restoring: "Its backup is being restored.",
  failed: "Its backup could not be read.",
  cancelled: "It was called off.",
};

const at = (id) => document.getElementById(id);
// Nothing but an id may become a part of the paths that are asked.
const [id] = location.hash.slice(1).match(/^[0-9a-f-]{36}$/i) || [];

let environment = null;
// Of what is asked for until it is answered: who asks again after a broken line asks for the same.
let keys = {};
// When a production was first clicked to be deployed again.
let clicked = null;

class Refused extends Error {
  constructor(status, said) {
    const findings = (said.findings || []).map((finding) => `${finding.code}: ${finding.message}`);
    const fields = (said.errors || []).map((error) => `${error.field}: ${error.message}`);
    const text = said.detail || `The server answered ${status}.`;
    const next = said.remedy && !text.endsWith(said.remedy) ? [said.remedy] : [];
    super([text, ...next, ...fields, ...findings].join("\n"));
    this.status = status;
  }
}

/// The answer of the server, or what it refused with.
async function ask(path, { values = {}, query = {}, method = "GET", headers = {}, body } = {}) {
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(values[name]));
  const asked = new URLSearchParams(query).toString();
  let answer, text;
  try {
    answer = await fetch(asked ? `${filled}?${asked}` : filled, {
      method,
      headers: { "Content-Type": "application/json", "X-Requested-With": "undoo", ...headers },
      body: body && JSON.stringify(body),
    });
    text = await answer.text();
  } catch {
    throw new Error("The server did not answer. Try again.");
  }
  let said = {};
  try {
    said = text ? JSON.parse(text) : {};
  } catch {
    if (answer.ok) throw new Error("Something that is no Undoo server answered.");
  }
  if (!answer.ok) throw new Refused(answer.status, said);
  return said;
}

function tell(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

/// Does something that asks the server, and says what went wrong. Who is not signed in any more signs in.
async function attempt(what) {
  tell("");
  try {
    await what();
  } catch (error) {
    if (error.status === 401) signIn();
    else tell(error.message);
  }
}

const when = (time) => new Date(time).toLocaleString();

function signIn() {
  at("environment").hidden = at("task").hidden = at("session").hidden = true;
  at("title").textContent = "Sign in";
  at("intro").textContent = "To deploy an environment.";
  at("intro").hidden = at("login").hidden = false;
  at("email").focus();
}

/// What can be done is shown only while nothing is being done.
function act(deploy, danger) {
  at("deploy").hidden = !deploy;
  at("danger").hidden = !danger;
  at("word").value = "";
  at("danger-button").disabled = true;
  clicked = null;
}

async function load() {
  const { user } = await ask(ASKS.me);
  at("login").hidden = true;
  at("who").textContent = user.email;
  at("session").hidden = false;
  at("title").textContent = "Deploy an environment";
  environment = await ask(ASKS.environment, { values: { environment_id: id } });
  const { migration_id } = environment;
  const migration = migration_id && (await ask(ASKS.migration, { values: { migration_id } }));
  show(migration);
  const query = { organization_id: environment.organization_id, environment_id: environment.id, page_size: 1 };
  const [newest] = await ask(ASKS.tasks, { query });
  if (newest && !OVER.includes(newest.status)) follow(newest);
}

function show(migration) {
  const { name, environment_type, status, deployment } = environment;
  document.title = `Deploy ${name} · Undoo`;
  at("title").textContent = name;
  at("production").hidden = environment_type !== "production";
  at("type").textContent = environment_type;
  at("status").textContent = status;
  at("migration").textContent = said(migration);
  const waits = migration && !deployment && migration.status !== "cancelled";
  const ready = waits && migration.verified_at && ["uploaded", "failed"].includes(migration.status);
  const deployed = deployment?.state === "deployed" && migration?.status !== "restoring";
  at("deployment").textContent = deployment
    ? { making: "It is still being made.", deployed: "deployed", removing: "It is being removed." }[deployment.state]
    : waits
      ? "It waits for its migration."
      : migration
        ? "Nothing of it is there."
        : "It was adopted: the platform did not make it, and does not deploy it.";
  at("deploy-button").textContent = deployed ? "Deploy again" : "Deploy";
  at("deploy-says").textContent = deployed
    ? "Its containers are made anew; its data stays. It is away for a moment."
    : "It is made on its server, around the restore of its migration's backup.";
  at("danger-says").textContent =
    `The database and the files of ${name} (${environment_type}) are replaced by its migration's backup. ` +
    "What was written since is then in the safety backup only.";
  keys = {};
  act(ready || deployed, deployed && environment.migration_restore_completed);
  at("intro").hidden = true;
  at("environment").hidden = false;
}

function said(migration) {
  if (!migration) return "none";
  const error = migration.error_message ? `\n${migration.error_message}` : "";
  if (environment.migration_restore_completed) {
    return `Restored on ${when(environment.migration_restore_completed_at)}.${error}`;
  }
  if (migration.verified_at && migration.status === "failed") return `It could not be restored.${error}`;
  return (NOT_YET[migration.status] || "Its backup is there, and whole.") + error;
}

function progress(task) {
  const { phase, done, total, unit } = task.progress || {};
  const how = { queued: "is queued: it waits for a worker", cancelling: "is being taken back" }[task.status] || "is running";
  at("progress").textContent = `The ${task.task_type} ${how}${phase ? ` (${phase})` : ""}.`;
  at("bar").hidden = !total;
  if (total) at("bar").value = done / total;
  at("bar").title = total ? `${done} of ${total} ${unit || ""}` : "";
}

/// Says how far a task is, each second until it is over, and then how it ended.
async function follow(task) {
  act(false, false);
  at("task-id").textContent = task.id;
  at("task").hidden = false;
  const asked = task.id;
  while (!OVER.includes(task.status)) {
    progress(task);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    try {
      task = await ask(ASKS.task, { values: { task_id: asked } });
      tell("");
    } catch (error) {
      if (error.status === 401) return signIn();
      tell(`${error.message} What was asked for goes on there.`);
    }
  }
  at("bar").hidden = true;
  at("progress").textContent = ENDS[task.status];
  await attempt(load);
  if (task.status !== "completed" && task.error_message) tell(task.error_message);
}

function fresh() {
  // Unlike randomUUID, this is there on a server without TLS, too.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function deploy(query) {
  const what = JSON.stringify(query);
  keys[what] ||= fresh();
  const headers = { "Idempotency-Key": keys[what] };
  try {
    follow(await ask(ASKS.deploy, { values: { environment_id: id }, query, method: "POST", headers, body: {} }));
    delete keys[what];
  } catch (error) {
    if (error.status) delete keys[what];
    throw error;
  }
}

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const body = { email: at("email").value, password: at("password").value };
    at("sign-in").disabled = true;
    try {
      await ask(ASKS.login, { method: "POST", body });
    } finally {
      at("sign-in").disabled = false;
    }
    at("login").reset();
    await load();
    at("title").focus();
  });
});

at("sign-out").addEventListener("click", () => {
  attempt(async () => {
    await ask(ASKS.logout, { method: "POST" });
    location.reload();
  });
});

at("deploy").addEventListener("submit", (event) => {
  event.preventDefault();
  const again = Boolean(environment.deployment);
  if (again && environment.environment_type === "production") {
    const first = clicked === null;
    clicked ??= Date.now();
    if (first) {
      at("deploy-says").textContent = `${environment.name} is production, and away for a moment. Click once more to go on.`;
      at("deploy-button").textContent = "Yes, deploy again";
    }
    // The second half of a double click is no second thought.
    if (Date.now() - clicked < 600) return;
  }
  at("deploy-button").disabled = true;
  attempt(() => deploy({})).finally(() => { at("deploy-button").disabled = false; });
});

at("word").addEventListener("input", () => {
  at("danger-button").disabled = at("word").value !== WORD;
});

at("danger").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = at("word").value;
  at("word").value = "";
  at("danger-button").disabled = true;
  if (typed === WORD) attempt(() => deploy({ force_restore: true }));
});

addEventListener("hashchange", () => location.reload());
if (id) attempt(load);
