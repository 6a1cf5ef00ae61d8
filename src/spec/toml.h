/* TOML as configuration files use it: tables, dotted and quoted keys, strings of all four kinds,
 * integers, floats, booleans, arrays, inline tables, arrays of tables ([[…]]), comments. Not: dates, which no
 * file of ours has; they are refused.
 *
 * The result is a JSON tree (base/json.h), so a document is read with the same field tables and its
 * errors name line, column and field. Bounded: TOML_MAX bytes, nesting of TOML_DEPTH_MAX, TOML_MEMBERS_MAX
 * members in one table or array. Pure. */
#ifndef KNARR_SPEC_TOML_H
#define KNARR_SPEC_TOML_H

#include "base/json.h"

enum { TOML_MAX = 1 << 20, TOML_DEPTH_MAX = 16, TOML_MEMBERS_MAX = 2000 };

/* ERR_INVALID: "line L column C: …". */
int toml_parse(struct arena *a, struct str text, struct json **out, struct err *e);

#endif
