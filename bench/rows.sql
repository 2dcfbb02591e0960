-- Grows a real Odoo database to the size that live ones have, by cloning its own rows, so that every
-- foreign key, check and index holds; and by writing messages, which hold most bytes in live databases.
-- It must never switch a constraint off: what is loaded later has to be valid.
--
-- psql variables: partners, sales, invoices, tasks, leads, moves (clones of each row that is there),
-- messages, trackings (rows).
\set ON_ERROR_STOP on
SET synchronous_commit = off;
SET maintenance_work_mem = '512MB';
SELECT setseed(0.42);

CREATE TEMP TABLE strides (name text PRIMARY KEY, stride bigint);

-- Inserts `copies` clones of every row of a table. `stride` is what a clone's id is moved by; columns
-- named in `changes` get the expression given (k is the number of the clone), all others the original's.
CREATE FUNCTION pg_temp.clone(source text, copies int, changes jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  columns text; expressions text; stride bigint; done bigint;
BEGIN
  IF copies = 0 THEN RETURN 0; END IF; -- then the table need not exist
  SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum),
         string_agg(coalesce(changes ->> attname::text, 's.' || quote_ident(attname)), ', ' ORDER BY attnum)
    INTO columns, expressions
    FROM pg_attribute WHERE attrelid = source::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
  EXECUTE format('SELECT coalesce(max(id), 0) + 1 FROM %s', source) INTO stride;
  INSERT INTO strides VALUES (source, stride);
  expressions := regexp_replace(expressions, '\{(\w+)\}', '(SELECT stride FROM strides WHERE name = ''\1'')', 'g');
  EXECUTE format('INSERT INTO %s (%s) SELECT %s FROM %s s CROSS JOIN generate_series(1, %s) AS k ORDER BY k, s.id',
                 source, columns, expressions, source, copies);
  GET DIAGNOSTICS done = ROW_COUNT;
  EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, ''id''), (SELECT max(id) FROM %s))', source, source);
  RETURN done;
END $$;

-- A sentence or more of plain words: compressible as people's text is.
CREATE FUNCTION pg_temp.words(n int) RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT string_agg((ARRAY['the','order','customer','delivery','invoice','please','confirm','attached','regarding',
    'meeting','quote','update','tomorrow','thanks','best','regards','product','price','shipment','warehouse',
    'contract','signed','payment','received','question','about','we','will','send','you','your','request','not',
    'available','until','next','week','project','task','deadline','review','approved','by','team','as','discussed',
    'on','phone','kind','however','discount','quantity','of','and','for','with','from','to','a','is','was','be',
    'Schmidt','Garcia','Nguyen','Smith','Dubois','Rossi','Müller','Łódź','São'])[1 + floor(random() * 71)::int], ' ')
  FROM generate_series(1, n)
$$;

-- Texts are drawn from these with a number put in, since making each word by word takes an hour.
CREATE TEMP TABLE texts AS
  SELECT i AS id, pg_temp.words(8 + floor(random() * random() * 130)::int) AS body, pg_temp.words(5) AS subject
  FROM generate_series(1, 20000) AS i;
CREATE UNIQUE INDEX ON texts (id);

SELECT 'res_partner', pg_temp.clone('res_partner', :partners, $${
  "id": "s.id + k * {res_partner}",
  "parent_id": "s.parent_id + k * {res_partner}",
  "commercial_partner_id": "s.commercial_partner_id + k * {res_partner}",
  "name": "s.name || ' ' || k", "complete_name": "s.complete_name || ' ' || k",
  "email": "k || '.' || s.email", "email_normalized": "k || '.' || s.email_normalized",
  "barcode": "NULL", "signup_type": "NULL", "ref": "NULL"
}$$);

SELECT 'sale_order', pg_temp.clone('sale_order', :sales, $${
  "id": "s.id + k * {sale_order}", "name": "s.name || '/' || k", "access_token": "gen_random_uuid()",
  "date_order": "s.date_order - k * interval '1 hour'"
}$$);
SELECT 'sale_order_line', pg_temp.clone('sale_order_line', :sales, $${
  "id": "s.id + k * {sale_order_line}", "order_id": "s.order_id + k * {sale_order}",
  "linked_line_id": "s.linked_line_id + k * {sale_order_line}",
  "name": "s.name || ' ' || (SELECT subject FROM texts WHERE texts.id = 1 + (k * 31 + s.id) % 20000)"
}$$);

SELECT 'account_move', pg_temp.clone('account_move', :invoices, $${
  "id": "s.id + k * {account_move}", "name": "s.name || '/' || k", "sequence_number": "s.sequence_number + k * 1000",
  "sequence_prefix": "s.sequence_prefix || k || '/'", "access_token": "gen_random_uuid()",
  "payment_reference": "s.payment_reference || '/' || k", "ref": "s.ref || ' ' || k"
}$$);
SELECT 'account_move_line', pg_temp.clone('account_move_line', :invoices, $${
  "id": "s.id + k * {account_move_line}", "move_id": "s.move_id + k * {account_move}",
  "move_name": "s.move_name || '/' || k", "ref": "s.ref || ' ' || k",
  "name": "s.name || ' ' || (SELECT subject FROM texts WHERE texts.id = 1 + (k * 17 + s.id) % 20000)"
}$$);

SELECT 'stock_move', pg_temp.clone('stock_move', :moves, $${
  "id": "s.id + k * {stock_move}"
}$$);
SELECT 'crm_lead', pg_temp.clone('crm_lead', :leads, $${
  "id": "s.id + k * {crm_lead}", "name": "s.name || ' ' || k", "email_from": "k || '.' || s.email_from"
}$$);
SELECT 'project_task', pg_temp.clone('project_task', :tasks, $${
  "id": "s.id + k * {project_task}", "parent_id": "s.parent_id + k * {project_task}",
  "name": "s.name || ' ' || k", "access_token": "gen_random_uuid()"
}$$);

-- Messages on what was just made, half of them in threads under an earlier one.
CREATE TEMP TABLE threads (n serial, model text, id int);
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['res_partner', 'sale_order', 'account_move', 'crm_lead', 'project_task'] LOOP
    CONTINUE WHEN to_regclass(name) IS NULL;
    EXECUTE format('INSERT INTO threads (model, id) SELECT %L, id FROM %I ORDER BY id', replace(name, '_', '.'), name);
  END LOOP;
END $$;
CREATE UNIQUE INDEX ON threads (n);
CREATE TEMP TABLE facts AS SELECT
  (SELECT count(*) FROM threads) AS threads,
  (SELECT max(id) FROM mail_message) AS first,
  (SELECT array_agg(id ORDER BY id) FROM (SELECT id FROM res_partner ORDER BY id LIMIT 5000) AS chosen) AS authors,
  (SELECT array_agg(id ORDER BY id) FROM mail_message_subtype) AS subtypes,
  (SELECT array_agg(id ORDER BY id) FROM (SELECT id FROM ir_model_fields WHERE model IN ('sale.order', 'account.move', 'crm.lead', 'project.task') ORDER BY id) AS chosen) AS fields;

INSERT INTO mail_message (id, parent_id, res_id, record_alias_domain_id, subtype_id, author_id, create_uid, write_uid,
    model, email_from, message_id, message_type, subject, body, is_internal, date, create_date, write_date)
  SELECT f.first + i, CASE WHEN i > 50 AND i % 2 = 0 THEN f.first + i - 49 END, t.id, NULL,
         f.subtypes[1 + i % cardinality(f.subtypes)], a.author, 1, 1, t.model,
         '"User ' || a.author || '" <user.' || a.author || '@example.com>',
         '<' || md5(i::text) || '.' || i || '-openerp-' || t.id || '-' || t.model || '@bench>',
         (ARRAY['comment', 'email', 'notification'])[1 + i % 3],
         CASE WHEN i % 4 = 0 THEN x.subject END,
         CASE WHEN i % 3 = 2 THEN '' ELSE '<p>' || x.body || '</p><p>' || i || '</p>' END,
         i % 5 = 0, d.at, d.at, d.at
  FROM generate_series(1, :messages) AS i
  CROSS JOIN facts AS f
  CROSS JOIN LATERAL (SELECT f.authors[1 + (i::bigint * 7919 % cardinality(f.authors))::int] AS author) AS a
  CROSS JOIN LATERAL (SELECT timestamp '2026-01-01' - (:messages - i) * interval '90 seconds' AS at) AS d
  JOIN texts AS x ON x.id = 1 + (i::bigint * 104729 % 20000)
  JOIN threads AS t ON t.n = 1 + (i::bigint * 15485863 % f.threads);
SELECT setval(pg_get_serial_sequence('mail_message', 'id'), (SELECT max(id) FROM mail_message));

INSERT INTO mail_tracking_value (field_id, mail_message_id, create_uid, write_uid, old_value_char, new_value_char,
    old_value_integer, new_value_integer, create_date, write_date)
  SELECT f.fields[1 + i % cardinality(f.fields)], f.first + 1 + (i::bigint * 2 % :messages), 1, 1,
         (ARRAY['Quotation', 'New', 'Draft', 'In Progress'])[1 + i % 4],
         (ARRAY['Sales Order', 'Won', 'Posted', 'Done', 'Cancelled'])[1 + i % 5],
         i % 17, i % 19, now(), now()
  FROM generate_series(1, :trackings) AS i CROSS JOIN facts AS f;
