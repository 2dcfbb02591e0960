"use strict";

// What a link leads to, by the name that stands before its token.
const LINKS = {
  token: {
    path: "/api/v1/auth/setup",
    title: "Set up your platform",
    intro: "You become its first administrator. Everything can be changed later.",
    fields: ["organization_name", "name", "email", "password"],
  },
  invitation: {
    path: "/api/v1/auth/invitations/accept",
    title: "Choose your password",
    intro: "It is yours alone. If you have an account here already and join one more organisation, give the password that you sign in with.",
    fields: ["password"],
  },
};

const at = (id) => document.getElementById(id);
const [kind, token] = [...new URLSearchParams(location.hash.slice(1))][0] || [];
const link = Object.hasOwn(LINKS, kind) && token ? LINKS[kind] : null;

// The token must not stay in the history, nor be seen over a shoulder.
history.replaceState(null, "", location.pathname);

function tell(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

async function send(event) {
  event.preventDefault();
  tell("");
  at("send").disabled = true;
  try {
    const body = { token };
    for (const field of link.fields) body[field] = at("form").elements[field].value;
    const answer = await fetch(link.path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Requested-With": "undoo" },
      body: JSON.stringify(body),
    });
    const said = await answer.json();
    if (answer.ok) welcome(said);
    else tell(said.detail);
  } catch {
    tell("The server did not answer. Try again.");
  } finally {
    at("send").disabled = false;
  }
}

function welcome(user) {
  at("form").reset();
  at("form").hidden = at("intro").hidden = true;
  at("title").textContent = `Welcome, ${user.name}`;
  at("who").textContent = `You are signed in as ${user.email}.`;
  at("login").textContent = `undoo login ${location.origin} --email ${user.email}`;
  at("done").hidden = false;
}

if (link) {
  at("title").textContent = link.title;
  at("intro").textContent = link.intro;
  for (const field of at("form").querySelectorAll(".first input")) field.disabled = !link.fields.includes(field.name);
  at("form").querySelector(".first").hidden = !link.fields.includes("email");
  at("form").addEventListener("submit", send);
  at("form").hidden = false;
  at("form").querySelector("input:not(:disabled)").focus();
}
