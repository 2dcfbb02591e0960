//! Names that expressions may use freely. Each list is words, separated by white space.
//!
//! A function belongs here only if it computes from its arguments and the database's own rows: no files,
//! no programs, no network, no settings, no waiting, and no running of a text as SQL.

use crate::dump::statement::QualifiedName;

/// Functions and types of `pg_catalog`, and constructs that look like calls.
const BUILTIN: &str = "
    abs acos age any_value area array_agg array_append array_cat array_dims array_fill array_length
    array_lower array_ndims array_position array_positions array_prepend array_remove array_replace
    array_to_json array_to_string array_to_tsvector array_upper ascii asin atan atan2 atan2d avg bigint
    bit bit_and bit_length bit_or bool bool_and bool_or boolean box bpchar broadcast btrim bytea
    cardinality cbrt ceil ceiling center char char_length character character_length chr cidr circle
    clock_timestamp coalesce col_description concat concat_ws convert convert_from convert_to corr cos
    cosd cosh cot count covar_pop covar_samp cume_dist current_database current_date current_schema
    current_schemas current_time current_timestamp current_user currval date date_bin date_part date_trunc
    datemultirange daterange decimal decode degrees dense_rank diameter div double encode enum_first
    enum_last enum_range erf erfc every exp extract factorial family first_value float float4 float8 floor
    format format_type gamma gcd gen_random_uuid generate_series generate_subscripts get_bit get_byte
    greatest grouping has_table_privilege height host inet inet_client_addr initcap int int2 int4
    int4multirange int4range int8 int8multirange int8range integer interval isempty isfinite json json_agg
    json_array_elements json_array_elements_text json_array_length json_build_array json_build_object
    json_each json_each_text json_extract_path json_extract_path_text json_object json_object_agg
    json_object_keys json_populate_record json_strip_nulls json_to_record json_to_recordset json_typeof
    jsonb jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array
    jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert
    jsonb_object jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_match jsonb_path_query
    jsonb_path_query_array jsonb_path_query_first jsonb_populate_record jsonb_pretty jsonb_set
    jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_to_tsvector jsonb_typeof
    justify_days justify_hours justify_interval lag last_value lcm lead least left length lgamma line ln
    localtime localtimestamp log log10 lower lower_inc lower_inf lpad lseg ltrim macaddr make_date
    make_interval make_time make_timestamp make_timestamptz masklen max md5 min min_scale mod mode money
    name netmask network nextval normalize now npoints nth_value ntile nullif num_nonnulls num_nulls
    numeric nummultirange numnode numrange obj_description octet_length oid overlaps overlay path
    percent_rank percentile_cont percentile_disc pg_client_encoding pg_column_size pg_database_size
    pg_get_constraintdef pg_get_expr pg_get_indexdef pg_get_serial_sequence pg_get_userbyid pg_get_viewdef
    pg_relation_size pg_size_pretty pg_table_is_visible pg_table_size pg_total_relation_size pg_typeof
    phraseto_tsquery pi plainto_tsquery point polygon position pow power precision querytree quote_ident
    quote_literal quote_nullable radians radius random range_agg range_merge rank real regclass
    regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
    regexp_split_to_table regexp_substr regr_intercept regr_r2 regr_slope repeat replace reverse right
    round row_number row_to_json rpad rtrim scale session_user set_bit set_byte setseed setweight sha224
    sha256 sha384 sha512 sign sin sind sinh smallint split_part sqrt starts_with statement_timestamp
    stddev stddev_pop stddev_samp string_agg string_to_array string_to_table strip strpos substr substring
    sum tan tand tanh text time timeofday timestamp timestamptz timetz timezone to_ascii to_char to_date
    to_hex to_json to_jsonb to_number to_regclass to_timestamp to_tsquery to_tsvector
    transaction_timestamp translate trim trim_array trim_scale trunc ts_headline ts_rank ts_rank_cd
    tsmultirange tsquery tsrange tstzmultirange tstzrange tsvector tsvector_to_array unistr unnest upper
    upper_inc upper_inf uuid uuidv4 uuidv7 var_pop var_samp varbit varchar variance varying
    websearch_to_tsquery width width_bucket xml xmlagg xmlconcat xmlelement xmlforest
";

/// Functions and types of extensions that Odoo and its modules use, in whatever schema they are. A function of the
/// dump itself by such a name is judged where it is created.
const EXTENSIONS: &str = "
    akeys avals binary_quantize citext cosine_distance cube cube_distance difference digest dmetaphone
    earth earth_box earth_distance f_unaccent gen_random_bytes gen_random_uuid geography geometry
    gin_trgm_ops gist_trgm_ops halfvec hamming_distance hmac hstore hstore_to_json hstore_to_jsonb
    immutable_unaccent inner_product jaccard_distance l1_distance l2_distance l2_normalize latitude
    levenshtein levenshtein_less_equal ll_to_earth longitude lquery ltree ltree2text metaphone nlevel
    show_trgm similarity soundex sparsevec st_area st_asgeojson st_astext st_contains st_distance
    st_dwithin st_geogfromtext st_geomfromtext st_intersects st_makepoint st_point st_setsrid st_srid
    st_transform st_within st_x st_y strict_word_similarity subpath subvector text2ltree unaccent
    unaccent_immutable unaccent_lexize uuid_generate_v1 uuid_generate_v1mc uuid_generate_v3
    uuid_generate_v4 uuid_generate_v5 uuid_nil vector vector_dims vector_norm word_similarity
";

/// Words that, unquoted, are never a function's name before a parenthesis.
const KEYWORDS: &str = "
    all and any array as asc asymmetric at between both by case cast check cluster collate constraint
    cross cube current cycle default deferrable deferred desc distinct else end escape except exclude
    exists false filter first following for foreign from full generated group groups hash having identity
    ilike in include inherits initially inner intersect into is isnull join key last lateral leading like
    limit list materialized natural no not notnull null nulls of offset on only operator options or order
    ordinality outer over partition placing policy preceding primary range references returning rollup row
    rows search select set sets similar some storage symmetric table tablesample then ties to trailing
    true union unique unlogged using values variadic view when where window with within without zone
";

/// Whether a call reaches nothing outside of the database.
pub(super) fn is_harmless(schema: Option<&str>, name: &str) -> bool {
    let builtin = matches!(schema, None | Some("pg_catalog")) && contains(BUILTIN, name);
    builtin || (schema != Some("pg_catalog") && contains(EXTENSIONS, name))
}

/// Whether an unquoted word, in lower case, is a keyword that no function can be called by.
pub(super) fn is_keyword(word: &str) -> bool {
    contains(KEYWORDS, word)
}

/// Whether a trigger runs one of PostgreSQL's own functions.
pub(super) fn is_trigger_function(function: &QualifiedName) -> bool {
    const FUNCTIONS: [&str; 3] =
        ["suppress_redundant_updates_trigger", "tsvector_update_trigger", "tsvector_update_trigger_column"];
    let catalog = function.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
    catalog && FUNCTIONS.contains(&function.name.as_str())
}

fn contains(list: &str, name: &str) -> bool {
    list.split_ascii_whitespace().any(|word| word == name)
}
