//! Where statements end, in quotes, comments and bodies of every kind.

use proptest::prelude::*;

use super::*;

fn kinds(text: &str) -> Vec<(TokenKind, &str)> {
    Tokens::new(text).map(|token| (token.kind, token.text)).collect()
}

#[test]
fn quotes_hide_semicolons() {
    let text = r#"SELECT 'a;''b', E'it\'s;', "c;""d", $$e;$$, $x$ $$;$x $x$; SELECT 2;"#;
    let statements = split_statements(text);
    assert_eq!(statements.len(), 2, "{statements:?}");
    assert_eq!(statements[1], "SELECT 2;");
}

#[test]
fn a_plain_string_has_no_backslash_escapes() {
    assert_eq!(split_statements(r"SELECT '\'; SELECT 2;"), [r"SELECT '\';", "SELECT 2;"]);
}

#[test]
fn an_escape_string_keeps_its_escapes_where_a_later_line_continues_it() {
    let text = "SELECT E'a' -- why\n  'b\\';c'; SELECT 2;";
    assert_eq!(split_statements(text).len(), 2);
    assert_eq!(kinds("E'a' 'b'").len(), 2, "without a line feed nothing is continued");
}

#[test]
fn comments_nest_and_are_dropped_between_statements_only() {
    let text = "-- one; \n/* a /* b; */ c; */ SELECT /* ; */ 1; -- end\n;;";
    assert_eq!(split_statements(text), ["SELECT /* ; */ 1;"]);
}

#[test]
fn a_carriage_return_ends_a_line_comment_as_it_does_for_the_server() {
    assert_eq!(split_statements("-- harmless\rDROP TABLE t;"), ["DROP TABLE t;"]);
}

#[test]
fn an_operator_ends_where_a_comment_begins() {
    assert_eq!(
        kinds("1 +-- x\n2"),
        [(TokenKind::Number, "1"), (TokenKind::Operator, "+"), (TokenKind::Number, "2")]
    );
    assert_eq!(kinds("a=/* ; */b").len(), 3);
}

#[test]
fn a_dollar_inside_a_name_quotes_nothing() {
    assert_eq!(split_statements("SELECT a$$; SELECT b$$;").len(), 2);
    assert_eq!(kinds("$1$$a;$$"), [(TokenKind::Parameter, "$1"), (TokenKind::DollarText, "$$a;$$")]);
}

#[test]
fn numbers_are_read_as_the_server_reads_them() {
    assert_eq!(
        kinds("1..10"),
        [(TokenKind::Number, "1"), (TokenKind::Punctuation, "."), (TokenKind::Number, ".10")]
    );
    assert_eq!(kinds("1.5e-3e'\\';'"), [(TokenKind::Number, "1.5e-3"), (TokenKind::EscapeText, "e'\\';'")]);
}

#[test]
fn an_atomic_body_is_one_statement() {
    let text = "CREATE FUNCTION public.f(a integer) RETURNS integer LANGUAGE sql\nBEGIN ATOMIC\n \
                SELECT CASE WHEN a > 1 THEN 2 ELSE 3 END;\n SELECT 4;\nEND;\nSELECT 5;";
    let statements = split_statements(text);
    assert_eq!(statements.len(), 2, "{statements:?}");
    assert!(is_single_statement(&statements[0]));
}

#[test]
fn begin_atomic_elsewhere_hides_nothing() {
    for text in [
        "CREATE FUNCTION begin(a int) RETURNS int LANGUAGE sql AS 'x'; DROP TABLE t;",
        "CREATE TABLE t (begin atomic); DROP TABLE t;",
        "BEGIN ATOMIC; DROP TABLE t;",
        "CREATE FUNCTION f(begin atomic) RETURNS int AS 'x'; DROP TABLE t;",
    ] {
        assert_eq!(split_statements(text).len(), 2, "{text}");
    }
}

#[test]
fn a_label_that_looks_like_case_makes_the_statement_doubtful() {
    let text = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 case; END; DROP TABLE t;";
    assert!(split_statements(text).iter().all(|statement| !is_single_statement(statement)));
}

#[test]
fn actions_of_a_rule_stay_together() {
    let rule = "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2);";
    assert_eq!(split_statements(rule), [rule]);
    assert!(is_single_statement(rule));
    assert!(!is_single_statement("SELECT (1; DROP TABLE t);"));
}

#[test]
fn two_statements_and_unfinished_ones_are_not_single() {
    for text in ["", ";", "SELECT 1", "SELECT 1; SELECT 2;", "SELECT 1;;", "SELECT 'a;", "SELECT \\ 1;"] {
        assert!(!is_single_statement(text), "{text}");
    }
    assert!(is_single_statement("SELECT 1; -- done"));
}

#[test]
fn names_and_strings_lose_their_quotes() {
    let names: Vec<_> = Tokens::new(r#"Foo "Foo""Bar" 'x'"#).map(|token| token.name()).collect();
    assert_eq!(names, [Some("foo".into()), Some("Foo\"Bar".into()), None]);
    let strings: Vec<_> = Tokens::new("'it''s' $a$b$$c$a$ E'x' $$$$").map(|token| token.string()).collect();
    assert_eq!(strings, [Some("it's".into()), Some("b$$c".into()), None, Some(String::new())]);
}

/// A fragment of SQL that is closed in itself. Fragments are joined by commas: a string after `E''` and a
/// line feed would continue it.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_][a-z0-9_$é]{0,6}",
        "[0-9]{1,4}",
        "[a-z;' \\\\\n]{0,8}".prop_map(|s| format!("'{}'", s.replace('\'', "''"))),
        "[a-z;\" \n]{0,8}".prop_map(|s| format!("\"{}\"", s.replace('"', "\"\""))),
        "[a-z;' \\\\\n]{0,8}".prop_map(|s| format!("E'{}'", s.replace('\\', "\\\\").replace('\'', "\\'"))),
        "[a-z;'\" \n$]{0,8}"
            .prop_filter("it would end there", |s| !format!("{s}$").contains("$q$"))
            .prop_map(|s| format!("$q${s}$q$")),
        "[a-z;' ]{0,8}".prop_map(|s| format!("/* {s} */")),
        "[a-z;' ]{0,8}".prop_map(|s| format!("-- {s}\n")),
        Just("(a, b)".to_owned()),
        Just("<->".to_owned()),
    ]
}

fn statement() -> impl Strategy<Value = String> {
    prop::collection::vec(fragment(), 0..8).prop_map(|parts| format!("SELECT {} ;", parts.join(" , ")))
}

proptest! {
    #[test]
    fn splitting_and_joining_keeps_the_text(statements in prop::collection::vec(statement(), 0..6)) {
        let text = statements.join("\n\n-- between; '\n");
        prop_assert_eq!(split_statements(&text), statements);
    }

    #[test]
    fn arbitrary_text_is_lexed_without_loss(text in "\\PC{0,64}|[-'\"$a;/*\\\\eE\n(u&]{0,64}") {
        let mut lexer = Lexer::new(text.as_bytes(), 0, true);
        let mut at = 0;
        while let Step::Token { start, end, .. } = lexer.step() {
            prop_assert!(start >= at && end > start && text.get(start..end).is_some());
            prop_assert!(text.as_bytes()[at..start].iter().all(|b| is_space(*b)));
            at = end;
        }
        prop_assert!(text.bytes().skip(at).all(is_space));
    }

    #[test]
    fn a_front_of_the_text_never_yields_a_token_that_the_whole_does_not(
        text in "[-'\"$a;/*\\\\eE\n(u&b1.]{0,24}",
        cut in 0_usize..24,
    ) {
        let cut = cut.min(text.len());
        let mut front = Lexer::new(&text.as_bytes()[..cut], 0, false);
        let mut whole = Lexer::new(text.as_bytes(), 0, true);
        while let step @ Step::Token { .. } = front.step() {
            prop_assert_eq!(step, whole.step());
        }
    }
}
