//! How statements become jobs: what goes together, what is a job of its own, and what comes first.

use super::*;

fn table(name: &str) -> QualifiedName {
    QualifiedName::new("public", name)
}

fn index(on: &str, name: &str) -> PostData {
    let sql = format!("CREATE INDEX {name} ON public.{on} USING btree (a);");
    PostData::Index { table: table(on), unique: false, sql }
}

fn primary_key(of: &str) -> PostData {
    let sql = format!("ALTER TABLE ONLY public.{of}\n    ADD CONSTRAINT {of}_pkey PRIMARY KEY (id);");
    PostData::Constraint { table: table(of), sql }
}

fn foreign_key(from: &str, to: &str, not_valid: bool) -> PostData {
    let name = format!("{from}_{to}_fkey");
    let end = if not_valid { " NOT VALID;" } else { ";" };
    let sql = format!(
        "ALTER TABLE ONLY public.{from}\n    ADD CONSTRAINT {name} FOREIGN KEY (x) REFERENCES public.{to}(id){end}"
    );
    PostData::ForeignKey { table: table(from), name, references: table(to), not_valid, sql }
}

/// One large table and two small ones.
fn bytes() -> HashMap<QualifiedName, u64> {
    [(table("mail_message"), 600 << 20), (table("res_users"), 900), (table("res_lang"), 0)].into()
}

fn planned(items: Vec<PostData>) -> Planned {
    plan(items, &bytes(), 384)
}

fn of_step(planned: &Planned, step: Step) -> Vec<&Job> {
    planned.jobs.iter().filter(|job| job.demand.step == step).collect()
}

#[test]
fn statements_of_small_tables_go_together_and_those_of_a_large_one_are_a_job_each() {
    let planned = planned(vec![
        primary_key("res_users"),
        primary_key("res_lang"),
        primary_key("mail_message"),
        index("res_users", "a"),
        index("res_lang", "b"),
        index("mail_message", "c"),
        index("mail_message", "d"),
        PostData::Other { sql: "COMMENT ON INDEX public.c IS 'x';".into() },
    ]);
    let sizes = |step| of_step(&planned, step).iter().map(|job| job.together.len()).collect::<Vec<_>>();
    assert_eq!((sizes(Step::Key), sizes(Step::Index)), (vec![2, 1], vec![2, 1, 1]));
    assert_eq!(planned.others.len(), 1);
    let large = of_step(&planned, Step::Key)[1];
    assert_eq!(large.demand.alone, [large.demand.place], "a constraint locks its table");
    assert!(of_step(&planned, Step::Index)[1].demand.alone.is_empty(), "indexes do not");
}

#[test]
fn small_sorts_stay_in_the_cache_and_only_they() {
    let gin = "CREATE INDEX g ON public.mail_message USING gin (a);".to_owned();
    let planned = planned(vec![
        index("mail_message", "c"),
        PostData::Index { table: table("mail_message"), unique: false, sql: gin },
    ]);
    let memory: Vec<_> = of_step(&planned, Step::Index).iter().map(|job| job.memory_mib).collect();
    assert_eq!(memory, [Some(8), None]);
    assert_eq!(sort_memory(100 << 30, 384), 384);
    assert_eq!(sort_memory(9 << 30, 384), 96);
}

#[test]
fn a_large_table_gets_its_keys_unvalidated_and_each_is_validated_but_one_that_was_not_valid_before() {
    let planned = planned(vec![
        foreign_key("mail_message", "res_users", false),
        foreign_key("mail_message", "res_lang", true),
        foreign_key("res_users", "res_lang", false),
        foreign_key("res_users", "mail_message", false),
    ]);
    let keys = of_step(&planned, Step::ForeignKey);
    let text: Vec<&str> = keys.iter().map(|job| job.together[0].as_str()).collect();
    assert_eq!(text[0].matches("NOT VALID").count(), 2, "{text:?}");
    assert_eq!(text[0].matches("NOT VALID NOT VALID").count(), 0, "{text:?}");
    assert!(!text[1].contains("NOT VALID"), "{text:?}");
    assert_eq!(text[1].matches("ADD CONSTRAINT").count(), 2, "one statement for a small table: {text:?}");
    assert_eq!(keys[1].demand.alone.len(), 2, "a key to a large table keeps that one to itself too");
    let validated: Vec<_> = of_step(&planned, Step::Validation);
    assert_eq!(validated.len(), 1);
    assert_eq!(validated[0].validates, Some((table("mail_message"), "mail_message_res_users_fkey".into())));
}

#[test]
fn tables_with_rows_are_analyzed() {
    let planned = planned(Vec::new());
    let text: Vec<_> =
        of_step(&planned, Step::Statistics).iter().map(|job| job.together[0].clone()).collect();
    assert_eq!(text, ["ANALYZE \"public\".\"mail_message\";", "ANALYZE \"public\".\"res_users\";"]);
}

#[test]
fn keys_come_before_what_needs_them_and_long_work_before_short() {
    let planned = planned(vec![
        foreign_key("res_users", "res_lang", false),
        foreign_key("mail_message", "res_users", false),
        index("mail_message", "c"),
        primary_key("mail_message"),
        primary_key("res_users"),
    ]);
    let order: Vec<Step> = planned.jobs.iter().map(|job| job.demand.step).collect();
    use Step as S;
    assert_eq!(
        order,
        [S::Key, S::Key, S::Index, S::ForeignKey, S::Statistics, S::Validation, S::ForeignKey, S::Statistics]
    );
}
