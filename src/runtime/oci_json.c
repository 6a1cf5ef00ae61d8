#include "runtime/oci.h"

#include "base/str.h"

static int line(struct buf *b, size_t depth, const char *unit, struct err *e)
{
	if (buf_addz(b, "\n", e) < 0)
		return -1;
	while (depth-- > 0)
		if (buf_addz(b, unit, e) < 0)
			return -1;
	return 0;
}

/* One piece: a quoted text whole, or a byte. */
static size_t piece(struct str s, size_t i)
{
	size_t end = i + 1;

	if (s.p[i] != '"')
		return 1;
	while (end < s.len && s.p[end] != '"')
		end += s.p[end] == '\\' ? 2 : 1;
	return MIN(end + 1, s.len) - i;
}

static bool opens(char c)
{
	return c == '{' || c == '[';
}

int oci_json_indent(struct buf *b, struct str compact, const char *unit, struct err *e)
{
	size_t depth = 0, n;

	for (size_t i = 0; i < compact.len; i += n) {
		char c = compact.p[i], next = i + 1 < compact.len ? compact.p[i + 1] : 0;
		bool closes = c == '}' || c == ']', empty = opens(c) && (next == '}' || next == ']');

		n = piece(compact, i);
		if (closes && !(i && opens(compact.p[i - 1])) && line(b, --depth, unit, e) < 0)
			return -1;
		if (buf_add(b, compact.p + i, n, e) < 0 || (c == ':' && buf_addz(b, " ", e) < 0))
			return -1;
		depth += opens(c) && !empty;
		if (((opens(c) && !empty) || c == ',') && line(b, depth, unit, e) < 0)
			return -1;
	}
	return 0;
}
