// Shows the OpenAPI document of this server. Whatever comes from the document becomes text, never markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Text in which `code` is code and blank lines part paragraphs.
function prose(text) {
  return (text ?? "").split(/\n\n+/).filter(Boolean).map((paragraph) =>
    element("p", {}, ...paragraph.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part))));
}

class Reference {
  constructor(api) {
    this.api = api;
  }

  resolve(schema) {
    const name = schema?.$ref?.split("/").pop();
    return name ? [name, this.api.components.schemas[name] ?? {}] : [null, schema ?? {}];
  }

  typeOf(schema) {
    const [name, found] = this.resolve(schema);
    if (found.enum) return found.enum.map((value) => JSON.stringify(value)).join(" | ");
    for (const choice of ["oneOf", "anyOf"]) {
      if (found[choice]) return found[choice].map((one) => one.title ?? this.typeOf(one)).join(" | ");
    }
    const types = [found.type ?? (found.properties ? "object" : "any")].flat();
    const shown = types.map((type) => (type === "array" ? `array of ${this.typeOf(found.items)}` : type));
    const base = name && (found.properties || found.allOf) ? name : shown.join(" | ");
    return found.format ? `${base} (${found.format})` : base;
  }

  bounds(schema) {
    const [, found] = this.resolve(schema);
    const known = { default: "default", minimum: "at least", maximum: "at most", minLength: "least characters", maxLength: "most characters" };
    return Object.entries(known).filter(([key]) => found[key] !== undefined)
      .map(([key, label]) => `${label} ${JSON.stringify(found[key])}`).join(", ");
  }

  fields(schema, seen = new Set()) {
    const [name, found] = this.resolve(schema);
    if (name && seen.has(name)) return [];
    const inside = new Set(seen).add(name);
    if (found.type === "array") return this.fields(found.items, inside);
    const own = Object.entries(found.properties ?? {}).map(([field, of]) =>
      [field, of, (found.required ?? []).includes(field)]);
    return (found.allOf ?? []).flatMap((part) => this.fields(part, inside)).concat(own);
  }

  rows(fields) {
    if (!fields.length) return null;
    const rows = fields.map(([name, schema, required, text]) => element("tr", {},
      element("td", {}, element("code", {}, name)),
      element("td", {}, this.typeOf(schema), required ? "" : ", optional"),
      element("td", {}, ...prose(text ?? schema?.description ?? this.resolve(schema)[1].description), this.bounds(schema))));
    return element("table", {}, ...rows);
  }

  // A body that is one of several has a table for each.
  choices(schema) {
    const [, found] = this.resolve(schema);
    return (found.oneOf ?? []).filter((one) => one.title && one.properties).flatMap((one) =>
      [element("p", {}, element("code", {}, one.title)), this.rows(this.fields(one))]);
  }

  content(of) {
    return Object.entries(of?.content ?? {}).map(([type, { schema, example }]) => element("div", {},
      element("p", {}, element("code", {}, type), " ", this.typeOf(schema)),
      this.rows(this.fields(schema)), ...this.choices(schema),
      example === undefined ? null : element("pre", {}, JSON.stringify(example, null, 2))));
  }

  operation(path, method, operation) {
    const parameters = (operation.parameters ?? []).map((one) =>
      [`${one.name} (${one.in})`, one.schema, one.required, one.description]);
    const answers = Object.entries(operation.responses ?? {}).map(([status, answer]) => element("details", {},
      element("summary", {}, element("strong", {}, status), " ", answer.description), ...this.content(answer)));
    return element("article", { id: operation.operationId },
      element("h3", {}, element("span", { class: `method ${method}` }, method), ` ${path}`),
      ...prose(operation.summary), ...prose(operation.description),
      element("p", { class: "permission" }, "Takes ", element("code", {}, operation["x-permission"] ?? "nothing")),
      parameters.length ? element("h4", {}, "Parameters") : null, this.rows(parameters),
      operation.requestBody ? element("h4", {}, "Body") : null, ...this.content(operation.requestBody),
      element("h4", {}, "Answers"), ...answers);
  }

  show(contents, main) {
    const operations = Object.entries(this.api.paths).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method]).map((method) => [path, method, item[method]]));
    main.replaceChildren(element("h1", {}, `${this.api.info.title} ${this.api.info.version}`),
      ...prose(this.api.info.description),
      element("p", {}, element("a", { href: "/api/v1/openapi.json" }, "OpenAPI document")));
    for (const { name, description } of this.api.tags ?? []) {
      const own = operations.filter(([, , operation]) => operation.tags?.includes(name));
      if (!own.length) continue;
      main.append(element("h2", {}, name), ...prose(description), ...own.map((one) => this.operation(...one)));
      contents.append(element("h2", {}, name), ...own.map(([path, method, operation]) =>
        element("a", { href: `#${operation.operationId}` }, element("span", { class: `method ${method}` }, method), ` ${path}`)));
    }
    document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }
}

fetch("/api/v1/openapi.json")
  .then((answer) => answer.json())
  .then((api) => new Reference(api).show(document.getElementById("contents"), document.getElementById("reference")))
  .catch((error) => document.getElementById("reference").replaceChildren(`The document could not be loaded: ${error}`));
