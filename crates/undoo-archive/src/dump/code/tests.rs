//! What is known code, what a person is asked about, and what no one may accept.

use proptest::prelude::*;

use super::*;
use crate::dump::statement::classify;

fn inspect(sql: &str) -> Vec<CodeFinding> {
    inspect_code(&classify(sql).unwrap_or_else(|problem| panic!("{sql}: {problem}")), sql)
}

fn one(sql: &str) -> CodeFinding {
    let mut findings = inspect(sql);
    assert_eq!(findings.len(), 1, "{sql}: {findings:?}");
    findings.remove(0)
}

fn plpgsql(body: &str) -> String {
    format!("CREATE FUNCTION public.f() RETURNS void\n    LANGUAGE plpgsql\n    AS $_$ BEGIN {body} END $_$;")
}

#[test]
fn expressions_of_known_functions_raise_nothing() {
    for sql in [
        "ALTER TABLE ONLY public.t ALTER COLUMN id SET DEFAULT nextval('public.t_id_seq'::regclass);",
        "CREATE TABLE public.t (\n a character varying(64) DEFAULT timezone('utc'::text, now()),\n b numeric(16,2), \
         c timestamp(6) without time zone, CONSTRAINT c CHECK ((char_length((a)::text) = 8))\n);",
        "CREATE TABLE public.t (a date, b integer GENERATED ALWAYS AS ((a * 2)) STORED) PARTITION BY RANGE (a);",
        "CREATE TABLE public.p PARTITION OF public.t FOR VALUES FROM ('a') TO ('b');",
        "CREATE INDEX i ON public.t USING gin (public.unaccent(COALESCE((name ->> 'en_US'::text), ''::text)) public.gin_trgm_ops);",
        "CREATE INDEX i ON public.t USING btree (date_trunc('month'::text, d), md5(\"left\"((x)::text, 20))) WHERE (a IS NOT NULL);",
        "CREATE VIEW public.v AS SELECT row_number() OVER (PARTITION BY a ORDER BY b) AS id, x.y FROM (public.t \
         LEFT JOIN LATERAL unnest(t.z) x(y) ON (true)) WHERE (EXISTS ( SELECT 1 FROM public.o u(a, b) WHERE (u.a IN (1, 2))));",
        "CREATE VIEW public.v (a, b) AS WITH RECURSIVE r(a, b) AS (SELECT 1, 2 UNION ALL SELECT 1, 2), s(c) AS (SELECT 3) \
         SELECT r.a, r.b FROM r;",
        "CREATE VIEW public.v AS SELECT \"*VALUES*\".column1 FROM (VALUES (1), (2)) \"*VALUES*\"(column1);",
        "CREATE VIEW public.v AS SELECT EXTRACT(epoch FROM a), (b)::numeric(16,2), count(*) FILTER (WHERE (c > 1)) FROM public.t;",
        "CREATE POLICY p ON public.t USING ((a = (CURRENT_USER)::text)) WITH CHECK (true);",
        "ALTER TABLE ONLY public.t ADD CONSTRAINT x EXCLUDE USING gist (a WITH =, daterange(b, c) WITH &&);",
        "CREATE DOMAIN public.d AS character varying(3) CONSTRAINT x CHECK ((upper((VALUE)::text) = (VALUE)::text));",
        "CREATE STATISTICS public.s (ndistinct, dependencies) ON a, lower(b) FROM public.t;",
        "ALTER TABLE public.t SET (autovacuum_enabled='false');",
        "ALTER TABLE ONLY public.t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.o(id);",
        "ALTER TABLE ONLY public.t ADD CONSTRAINT u UNIQUE (a);",
        "CREATE TYPE public.e AS ENUM ('a');",
        "COMMENT ON TABLE public.t IS 'pg_read_file(x)';",
        "COPY public.t (a) FROM stdin;",
    ] {
        assert_eq!(inspect(sql), [], "{sql}");
    }
}

#[test]
fn expressions_that_call_other_functions_need_acceptance() {
    for (sql, call) in [
        ("ALTER TABLE ONLY public.t ALTER COLUMN a SET DEFAULT public.evil();", "public.evil"),
        ("CREATE INDEX i ON public.t USING btree (public.lower(a));", "public.lower"),
        ("CREATE INDEX i ON public.t USING btree (a) WHERE evil(a);", "evil"),
        ("CREATE TABLE public.t (a integer CHECK (sales.evil(a)));", "sales.evil"),
        ("CREATE VIEW public.v AS SELECT pg_sleep(9);", "pg_sleep"),
        ("CREATE VIEW public.v AS SELECT set_config('a', 'b', false);", "set_config"),
        ("CREATE VIEW public.v AS SELECT DISTINCT ON (a) evil(b) FROM public.t;", "evil"),
        ("CREATE VIEW public.v AS SELECT 1 OPERATOR(pg_catalog.+) evil(2);", "evil"),
        ("CREATE VIEW public.v AS SELECT 1 FROM public.t, evil('x') AS (a integer);", "evil"),
        ("CREATE VIEW public.v AS SELECT 1 FROM evil('x') x(a);", "evil"),
        ("CREATE VIEW public.v AS SELECT a.b.evil(1);", "b.evil"),
        ("CREATE VIEW public.v AS SELECT \"select\"(1);", "select"),
        ("CREATE VIEW public.v AS SELECT (9).pg_sleep;", "pg_sleep"),
        ("CREATE VIEW public.v AS SELECT t.a[1].\"Evil\" FROM public.t;", "Evil"),
        ("CREATE VIEW public.v AS SELECT public.\"Evil\" /* x */ (1);", "public.Evil"),
        ("CREATE RULE \"_RETURN\" AS ON SELECT TO public.v DO INSTEAD SELECT evil(1) AS a;", "evil"),
        ("CREATE POLICY p ON public.t USING (evil(a));", "evil"),
        ("ALTER TABLE ONLY public.t ATTACH PARTITION public.p FOR VALUES IN (evil());", "evil"),
    ] {
        let finding = one(sql);
        assert_eq!(finding.verdict, Verdict::NeedsAcceptance, "{sql}");
        assert!(finding.reason.contains(&format!("calls {call},")), "{sql}: {}", finding.reason);
    }
}

#[test]
fn expressions_that_reach_out_are_never_accepted() {
    for sql in [
        "ALTER TABLE ONLY public.t ALTER COLUMN a SET DEFAULT pg_read_file('/etc/passwd'::text);",
        "CREATE VIEW public.v AS SELECT (a).pg_read_file FROM public.t;",
        "CREATE VIEW public.v AS SELECT pg_catalog.\"pg_ls_dir\"('/');",
        "CREATE VIEW public.v AS SELECT 1 FROM public.dblink('x'::text, 'y'::text) x(a integer);",
        "CREATE VIEW public.v AS SELECT query_to_xml('delete from t', true, true, '');",
        "CREATE MATERIALIZED VIEW public.v AS SELECT lo_export(1, '/tmp/x') WITH NO DATA;",
        "CREATE INDEX i ON public.t USING btree (lo_import(a));",
        "CREATE TABLE public.t (a integer DEFAULT pg_terminate_backend(1));",
    ] {
        assert_eq!(one(sql).verdict, Verdict::Never, "{sql}");
    }
}

#[test]
fn untrusted_languages_are_never_accepted() {
    for language in
        ["c", "internal", "plpython3u", "plpythonu", "plperlu", "plperl", "pltclu", "plsh", "\"C\"", "'c'"]
    {
        let sql = format!("CREATE FUNCTION public.f() RETURNS void LANGUAGE {language} AS 'x';");
        let finding = one(&sql);
        assert_eq!(finding.verdict, Verdict::Never, "{sql}");
        assert!(finding.finding().is_some_and(|finding| !finding.acceptable));
    }
}

#[test]
fn what_takes_a_superuser_to_define_cannot_be_accepted_for_nothing() {
    for sql in [
        "CREATE OPERATOR FAMILY public.f USING btree;",
        "CREATE OPERATOR CLASS public.c\n    FOR TYPE public.t USING btree AS\n    OPERATOR 1 public.<(public.t,public.t);",
        "CREATE CAST (public.a AS public.b) WITHOUT FUNCTION;",
    ] {
        let finding = one(sql);
        assert_eq!(finding.verdict, Verdict::Never, "{sql}");
        assert!(finding.reason.contains("superuser"), "{}", finding.reason);
    }
    for sql in [
        "CREATE CAST (public.a AS public.b) WITH FUNCTION public.f(public.a);",
        "CREATE OPERATOR public.+ (FUNCTION = public.f, LEFTARG = integer, RIGHTARG = text);",
    ] {
        assert_eq!(one(sql).verdict, Verdict::NeedsAcceptance, "{sql}");
    }
}

#[test]
fn bodies_that_reach_out_are_never_accepted() {
    for body in [
        "PERFORM pg_read_file('/etc/passwd');",
        "COPY t FROM PROGRAM 'id';",
        "COPY t TO '/tmp/x';",
        "EXECUTE 'copy t from program ''id''';",
        "EXECUTE $x$ COPY t FROM '/etc/passwd' $x$;",
        "EXECUTE E'ALTER\\nSYSTEM SET x = 1';",
        "ALTER SYSTEM SET archive_command = 'id';",
        r"EXECUTE E'\x43OPY t FROM \160rogram \'id\'';",
        r"EXECUTE E'SELECT pg_read_f\u0069le(''x'')';",
        "CREATE EXTENSION plpython3u;",
        "SET ROLE postgres;",
        "SET LOCAL ROLE postgres;",
        "SET SESSION AUTHORIZATION postgres;",
        "PERFORM dblink_connect('x');",
        "PERFORM pg_reload_conf();",
        "PERFORM pg_terminate_backend(1);",
        "PERFORM pg_file_write('x', 'y', false);",
        "PERFORM table_to_xml('t', true, true, '');",
    ] {
        assert_eq!(one(&plpgsql(body)).verdict, Verdict::Never, "{body}");
    }
    let trigger = "CREATE TRIGGER x AFTER INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f('COPY t FROM PROGRAM ''x''');";
    assert_eq!(one(trigger).verdict, Verdict::Never);
    let header =
        "CREATE FUNCTION public.f() RETURNS void LANGUAGE plpgsql SET role TO 'postgres' AS $$ x $$;";
    assert_eq!(one(header).verdict, Verdict::Never);
}

#[test]
fn a_column_named_role_is_no_role() {
    assert_eq!(one(&plpgsql("UPDATE public.t AS x SET role = 'a';")).verdict, Verdict::NeedsAcceptance);
}

#[test]
fn unknown_code_needs_acceptance_and_says_what_cannot_be_judged() {
    let finding = one(&plpgsql("EXECUTE a || b;"));
    assert_eq!((finding.verdict, finding.object.as_str()), (Verdict::NeedsAcceptance, "function public.f"));
    assert!(finding.reason.contains("EXECUTE"), "{}", finding.reason);
    let definer = "CREATE FUNCTION public.f() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ SELECT 1 $$;";
    assert!(one(definer).reason.contains("SECURITY DEFINER"));
    for sql in [
        "CREATE TRIGGER x AFTER INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();",
        "CREATE TRIGGER queue_job_notify AFTER INSERT ON public.queue_job FOR EACH ROW WHEN (evil(1)) \
         EXECUTE FUNCTION public.queue_job_notify();",
        "CREATE RULE r AS ON INSERT TO public.t DO ALSO DELETE FROM public.o;",
        "CREATE AGGREGATE public.a(integer) (SFUNC = public.f, STYPE = integer);",
        "CREATE OPERATOR public.## (FUNCTION = public.f, LEFTARG = text, RIGHTARG = text);",
        "CREATE CAST (public.c AS text) WITH FUNCTION public.f(public.c);",
        "CREATE TYPE public.r AS RANGE (subtype = text, subtype_diff = public.f);",
    ] {
        assert_eq!(one(sql).verdict, Verdict::NeedsAcceptance, "{sql}");
    }
    let finding = finding.finding().expect("a finding");
    assert!(
        finding.acceptable && finding.blocks(&[]) && !finding.blocks(std::slice::from_ref(&finding.code))
    );
}

#[test]
fn functions_that_compute_from_their_arguments_are_known() {
    for body in [
        "SELECT public.unaccent('public.unaccent', $1)",
        " select unaccent(lower($1)); ",
        "SELECT translate(lower(a), 'é', 'e') -- accents\n",
        "SELECT substring(a from 2) || extract(year from now())",
    ] {
        let sql = format!(
            "CREATE FUNCTION public.f(a text) RETURNS text\n    LANGUAGE sql IMMUTABLE STRICT\n    AS $_${body}$_$;"
        );
        assert_eq!(one(&sql).verdict, Verdict::Known, "{body}");
        assert_eq!(one(&sql).finding(), None);
    }
    for body in [
        "SELECT login FROM public.res_users",
        "SELECT (SELECT login FROM public.res_users)",
        "SELECT evil($1)",
        "SELECT 1; DELETE FROM t",
        "DELETE FROM t",
        "WITH x AS (DELETE FROM t RETURNING 1) SELECT 1",
        "SELECT (TABLE t)",
        "SELECT $1.pg_sleep",
        "SELECT a.pg_sleep",
        "SELECT U&\"f\"(1)",
        "SELECT 1 INTO t",
    ] {
        let sql = format!("CREATE FUNCTION public.f(text) RETURNS text LANGUAGE sql AS $_${body}$_$;");
        assert_eq!(one(&sql).verdict, Verdict::NeedsAcceptance, "{body}");
    }
}

#[test]
fn triggers_of_postgresql_itself_and_of_the_job_queue_are_known() {
    for sql in [
        "CREATE TRIGGER x BEFORE UPDATE ON public.t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();",
        "CREATE TRIGGER queue_job_notify AFTER INSERT OR DELETE OR UPDATE ON public.queue_job FOR EACH ROW \
         EXECUTE PROCEDURE public.queue_job_notify();",
    ] {
        assert_eq!(one(sql).verdict, Verdict::Known, "{sql}");
    }
}

#[test]
fn the_hash_follows_the_meaning_and_not_the_layout() {
    let hash = |sql: &str| one(sql).hash;
    let first =
        hash("CREATE FUNCTION public.f() RETURNS void LANGUAGE plpgsql AS $$\nBEGIN\n  PERFORM 1;\nEND $$;");
    let same = hash(
        "create function public.f() returns void language plpgsql as $_$begin PERFORM 1; -- x\nEND $_$;",
    );
    assert_eq!(first, same);
    assert_eq!(first.len(), HASH_DIGITS);
    for other in [plpgsql("PERFORM 2;"), plpgsql("PERFORM '1';"), plpgsql("PERFORM \"1\";")] {
        assert_ne!(first, hash(&other));
    }
}

proptest! {
    #[test]
    fn arbitrary_code_never_panics(
        body in "\\PC{0,60}|(COPY |FROM |'|\\$a\\$|E'|\\(|\\)|f|\\.|AS |SELECT |SET |ROLE |,|;|WITH ){0,20}",
    ) {
        let sql = format!("CREATE FUNCTION public.f() RETURNS void LANGUAGE sql AS $__${body}$__$;");
        if let Ok(statement) = classify(&sql) {
            inspect_code(&statement, &sql);
        }
        let view = format!("CREATE VIEW public.v AS {body};");
        if let Ok(statement) = classify(&view) {
            inspect_code(&statement, &view);
        }
    }
}
