/* JSON (RFC 8259). A document is a struct and a table of its fields; code never walks keys by hand.
 * The same table reads and writes.
 *
 * The parser is bounded (depth 64, the input's length is the caller's bound), finds duplicate keys
 * and keeps line and column of every value, so errors name file position and field. Text must not
 * contain NUL; bytes that are not UTF-8 are taken and written as they are (an environment may hold
 * them). Numbers are kept as written: integers to the full 64 bits, signed and unsigned.
 * Everything lives in the arena; nothing blocks. */
#ifndef KNARR_BASE_JSON_H
#define KNARR_BASE_JSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
	enum json_type type;
	unsigned line, column; /* of its first byte, from 1 */
	const char *key;       /* in an object: its name */
	struct str text;       /* STRING: decoded, NUL-terminated; NUMBER: as written */
	struct json *first;    /* ARRAY, OBJECT: members in order */
	struct json *next;     /* the next member of the same parent */
	size_t count;          /* members */
};

int json_parse(struct arena *a, struct str text, struct json **out, struct err *e);
/* The member of an object, NULL if there is none or it is no object. */
const struct json *json_get(const struct json *object, const char *key);

enum json_kind {
	JSON_END,
	JSON_STR,     /* char *                      : NULL when absent */
	JSON_STRV,    /* char ** NULL-terminated     : NULL when absent */
	JSON_BOOL,    /* bool */
	JSON_I32,     /* int32_t */
	JSON_U32,     /* uint32_t */
	JSON_I64,     /* int64_t */
	JSON_U64,     /* uint64_t */
	JSON_F64,     /* double */
	JSON_OPT_BOOL, JSON_OPT_I32, JSON_OPT_U32, JSON_OPT_I64, JSON_OPT_U64, /* pointers, NULL: absent */
	JSON_OBJ,     /* struct *                    : `sub` and `size`; NULL when absent */
	JSON_SUB,     /* a struct in line          : `sub` and `size`; absent while all its bytes are 0 */
	JSON_OBJV,    /* struct json_vec             : array of structs in line, `sub` and `size` */
	JSON_I64V,    /* struct json_vec of int64_t */
	JSON_U32V,    /* struct json_vec of uint32_t */
	JSON_MAP,     /* struct json_map             : object of text to text */
	JSON_ANY,     /* const struct json *         : the parsed value itself; written back */
};

struct json_vec {
	void *p; /* count elements in line; NULL when absent, non-NULL for [] */
	size_t count;
};

struct json_pair {
	char *key, *value;
};
struct json_map {
	struct json_pair *p; /* in the document's order; NULL when absent, non-NULL for {} */
	size_t count;
};
const char *json_map_get(const struct json_map *m, const char *key);

enum { JSON_REQUIRED = BIT(0), JSON_OPTIONAL = 0,
       JSON_KEEP_ZERO = BIT(1) }; /* write the field even when it is 0, false, "" or empty */

struct json_field {
	const char *name;
	enum json_kind kind;
	size_t offset;
	unsigned flags;
	const struct json_field *sub; /* JSON_OBJ, JSON_OBJV */
	size_t size;                  /* of the sub struct */
};

enum { JSON_STRICT = BIT(0) }; /* json_read: an unknown key is an error */

/* Fills the struct (already zeroed) from the object. null counts as absent. ERR_INVALID names line,
 * column and the field's path. */
int json_read(struct arena *a, const struct json *doc, const struct json_field *fields, int flags,
	      void *out, struct err *e);
/* Parse and read in one. */
int json_load(struct arena *a, struct str text, const struct json_field *fields, int flags, void *out,
	      struct err *e);

/* Writes the struct as one object, in the table's order. Absent fields (NULL, 0, false, empty) are
 * left out, unless JSON_KEEP_ZERO. */
int json_write(struct buf *b, const struct json_field *fields, const void *in, struct err *e);
int json_write_value(struct buf *b, const struct json *v, struct err *e);
/* A deep copy of what the table names, into a zeroed struct: all of it lives in `a`. */
void json_copy(struct arena *a, const struct json_field *fields, const void *from, void *to);
/* A quoted, escaped string. */
int json_write_text(struct buf *b, const char *text, struct err *e);

#endif
