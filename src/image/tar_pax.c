/* pax extended headers and the sparse maps of GNU tar. */
#include "image/tar.h"

#include <string.h>

/* --- sparse maps ----------------------------------------------------------------------------------- */

int tar_segment_add(struct tar_reader *t, uint64_t offset, uint64_t length, struct err *e)
{
	struct tar_segment s = { offset, length };

	if (buf_add(&t->segments, &s, sizeof(s), e) < 0)
		return err_set(e, ERR_EXHAUSTED, "a sparse map of more than %d segments", TAR_SEGMENTS_MAX);
	return 0;
}

int tar_segments_check(const struct tar_reader *t, uint64_t real_size, uint64_t stored, struct err *e)
{
	const struct tar_segment *s = (const void *)t->segments.p;
	size_t n = t->segments.len / sizeof(*s);
	uint64_t at = 0, sum = 0;

	for (size_t i = 0; i < n; i++) {
		if (s[i].offset < at || s[i].offset > real_size || s[i].length > real_size - s[i].offset)
			return err_set(e, ERR_INVALID, "the sparse map's segments overlap or leave the file");
		at = s[i].offset + s[i].length;
		sum += s[i].length; /* no overflow: they lie one after another */
	}
	if (sum != stored)
		return err_set(e, ERR_INVALID, "the sparse map holds %llu bytes, the archive %llu",
			       (unsigned long long)sum, (unsigned long long)stored);
	return 0;
}

/* The text of a 1.0 map, read block by block: decimal numbers, each ended by a newline. */
struct map_text {
	struct tar_reader *t;
	const unsigned char *p;
	size_t left;
};

static int map_number(struct map_text *m, uint64_t *out, struct err *e)
{
	uint64_t v = 0;

	for (int digits = 0;; digits++) {
		unsigned char ch;

		if (!m->left) {
			if (m->t->data_left < TAR_BLOCK)
				return err_set(e, ERR_INVALID, "the sparse map is longer than the entry");
			if (tar_block(m->t, &m->p, e) < 0)
				return -1;
			m->t->data_left -= TAR_BLOCK;
			m->left = TAR_BLOCK;
		}
		ch = *m->p++;
		m->left--;
		if (ch == '\n' && digits)
			break;
		if (ch < '0' || ch > '9' || digits >= 19) /* 19 nines fit into 64 bits */
			return err_set(e, ERR_INVALID, "the sparse map holds no number where one belongs");
		v = v * 10 + (uint64_t)(ch - '0');
	}
	if (v > INT64_MAX)
		return err_set(e, ERR_INVALID, "a number of the sparse map is too large");
	*out = v;
	return 0;
}

int tar_sparse_1_0(struct tar_reader *t, struct err *e)
{
	struct map_text m = { .t = t };
	uint64_t n = 0;

	buf_clear(&t->segments);
	if (map_number(&m, &n, e) < 0)
		return -1;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t offset = 0, length = 0;

		if (map_number(&m, &offset, e) < 0 || map_number(&m, &length, e) < 0 ||
		    tar_segment_add(t, offset, length, e) < 0)
			return -1;
	}
	return 0; /* the rest of the last block is padding */
}

/* --- records --------------------------------------------------------------------------------------- */

static int pax_bad(const char *key, struct err *e)
{
	return err_set(e, ERR_INVALID, "pax record \"%.64s\" has a value that cannot be", key);
}

static int pax_u64(const char *key, struct str v, uint64_t max, uint64_t *out, struct err *e)
{
	uint64_t n = 0;

	if (str_to_u64(v, &n, e) < 0 || n > max)
		return pax_bad(key, e);
	*out = n;
	return 0;
}

static int pax_id(const char *key, struct str v, bool *has, uint32_t *out, struct err *e)
{
	uint64_t n = 0;

	if (pax_u64(key, v, UINT32_MAX - 1, &n, e) < 0)
		return -1;
	*has = true;
	*out = (uint32_t)n;
	return 0;
}

/* "-12.5" is 13 seconds before the epoch and half a second on. More than nine decimals are cut. */
static int pax_time(const char *key, struct str v, struct tar_extra *x, struct err *e)
{
	bool negative = str_starts(v, "-");
	struct str fraction = v, whole;
	uint32_t ns = 0, unit = 100000000;
	int64_t s = 0;

	whole = str_cut(&fraction, '.');
	if (str_to_i64(whole, &s, e) < 0 || s == INT64_MIN)
		return pax_bad(key, e);
	for (size_t i = 0; i < fraction.len; i++, unit /= 10) {
		if (fraction.p[i] < '0' || fraction.p[i] > '9')
			return pax_bad(key, e);
		ns += (uint32_t)(fraction.p[i] - '0') * unit;
	}
	if (negative && ns) {
		s--;
		ns = 1000000000 - ns;
	}
	x->has_mtime = true;
	x->mtime_s = s;
	x->mtime_ns = ns;
	return 0;
}

static int pax_xattr(struct tar_reader *t, struct tar_extra *x, const char *name, struct str value,
		     struct err *e)
{
	if (!*name)
		return 0;
	for (size_t i = 0; i < x->nxattrs; i++) {
		if (streq(t->xattrs[i].name, name)) {
			t->xattrs[i].value = value;
			return 0;
		}
	}
	if (x->nxattrs == TAR_XATTRS_MAX)
		return err_set(e, ERR_EXHAUSTED, "more than %d extended attributes", TAR_XATTRS_MAX);
	t->xattrs[x->nxattrs++] = (struct tar_xattr){ name, value };
	return 0;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* In place: it only becomes shorter. */
static void url_decode(char *s)
{
	char *out = s;

	for (; *s; s++) {
		int high = s[0] == '%' ? hex_digit(s[1]) : -1;
		int low = high >= 0 ? hex_digit(s[2]) : -1;

		*out++ = low >= 0 ? (char)(high << 4 | low) : *s;
		s += low >= 0 ? 2 : 0;
	}
	*out = '\0';
}

static int base64_digit(char c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 :
	       c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* In place; libarchive writes it without padding. */
static int base64_decode(const char *key, char *p, struct str *v, struct err *e)
{
	uint32_t bits = 0;
	size_t out = 0;
	int have = 0;

	while (v->len && p[v->len - 1] == '=')
		v->len--;
	for (size_t i = 0; i < v->len; i++) {
		int d = base64_digit(p[i]);

		if (d < 0)
			return pax_bad(key, e);
		bits = bits << 6 | (uint32_t)d;
		have += 6;
		if (have >= 8) {
			have -= 8;
			p[out++] = (char)(bits >> have);
		}
	}
	v->len = out;
	return 0;
}

/* GNU.sparse 0.1: "offset,length,offset,length…" */
static int pax_sparse_map(struct tar_reader *t, const char *key, struct str v, struct err *e)
{
	struct str rest = v;

	if (t->segments.len)
		return err_set(e, ERR_INVALID, "two sparse maps");
	while (rest.p && rest.len) {
		uint64_t offset = 0, length = 0;
		struct str first = str_cut(&rest, ',');

		if (!rest.p)
			return pax_bad(key, e);
		if (pax_u64(key, first, INT64_MAX, &offset, e) < 0 ||
		    pax_u64(key, str_cut(&rest, ','), INT64_MAX, &length, e) < 0 ||
		    tar_segment_add(t, offset, length, e) < 0)
			return -1;
	}
	return 0;
}

/* 0.0 repeats offset and numbytes, one pair a segment. */
static int pax_sparse_pair(struct tar_reader *t, struct tar_extra *x, const char *key, struct str v, struct err *e)
{
	bool offset = streq(key, "GNU.sparse.offset");
	uint64_t n = 0;

	if (pax_u64(key, v, INT64_MAX, &n, e) < 0)
		return -1;
	if (offset == x->half_segment)
		return err_set(e, ERR_INVALID, "the sparse map's offsets and lengths do not alternate");
	x->half_segment = offset;
	if (offset)
		return tar_segment_add(t, n, 0, e);
	((struct tar_segment *)(void *)t->segments.p)[t->segments.len / sizeof(struct tar_segment) - 1].length = n;
	return 0;
}

static int pax_sparse(struct tar_reader *t, struct tar_extra *x, const char *key, struct str v, struct err *e)
{
	const char *name = key + strlen("GNU.sparse.");
	uint64_t ignored;

	x->sparse = true;
	if (streq(name, "name")) {
		x->sparse_name = v.p;
		return 0;
	}
	if (streq(name, "major"))
		return pax_u64(key, v, 1, &x->sparse_major, e);
	if (streq(name, "minor"))
		return pax_u64(key, v, 1, &x->sparse_minor, e);
	if (streq(name, "realsize") || streq(name, "size")) {
		x->has_real_size = true;
		return pax_u64(key, v, INT64_MAX, &x->real_size, e);
	}
	if (streq(name, "numblocks"))
		return pax_u64(key, v, TAR_SEGMENTS_MAX, &ignored, e);
	if (streq(name, "offset") || streq(name, "numbytes"))
		return pax_sparse_pair(t, x, key, v, e);
	if (streq(name, "map"))
		return pax_sparse_map(t, key, v, e);
	return err_set(e, ERR_INVALID, "pax record \"%.64s\" is not known", key);
}

/* `value` is followed by a NUL; it may hold others. */
static int pax_record(struct tar_reader *t, struct tar_extra *x, char *key, char *value, size_t len, struct err *e)
{
	struct str v = { value, len };
	bool is_path = streq(key, "path"), is_link = streq(key, "linkpath");

	if (starts_with(key, "SCHILY.xattr."))
		return pax_xattr(t, x, key + strlen("SCHILY.xattr."), v, e);
	if (starts_with(key, "LIBARCHIVE.xattr.")) {
		char *name = key + strlen("LIBARCHIVE.xattr.");

		url_decode(name);
		return base64_decode(key, value, &v, e) < 0 ? -1 : pax_xattr(t, x, name, v, e);
	}
	if ((is_path || is_link || starts_with(key, "GNU.sparse.")) && memchr(value, 0, len))
		return err_set(e, ERR_INVALID, "pax record \"%s\" holds a NUL", key);
	if (is_path)
		x->path = len ? value : NULL;
	else if (is_link)
		x->link = len ? value : NULL;
	else if (!len)
		return 0; /* an empty value takes back a global one, and those are not kept */
	else if (streq(key, "size"))
		return x->has_size = true, pax_u64(key, v, INT64_MAX, &x->size, e);
	else if (streq(key, "uid"))
		return pax_id(key, v, &x->has_uid, &x->uid, e);
	else if (streq(key, "gid"))
		return pax_id(key, v, &x->has_gid, &x->gid, e);
	else if (streq(key, "mtime"))
		return pax_time(key, v, x, e);
	else if (starts_with(key, "GNU.sparse."))
		return pax_sparse(t, x, key, v, e);
	return 0; /* the rest (atime, uname, comment, hdrcharset…) is of no use here */
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts the whole record. */
int tar_pax_parse(struct tar_reader *t, struct tar_extra *x, struct err *e)
{
	char *p = t->pax.p, *end = p ? p + t->pax.len : NULL;

	while (p != end) {
		char *digits = p, *equals, *last;
		size_t len = 0;

		if (*p == '\0')
			return 0; /* some writers pad with zeros */
		while (p < end && *p >= '0' && *p <= '9' && len <= TAR_PAX_MAX)
			len = len * 10 + (size_t)(*p++ - '0');
		if (p == digits || p == end || *p != ' ' || len > (size_t)(end - digits) ||
		    len < (size_t)(p - digits) + 4)
			return err_set(e, ERR_INVALID, "a pax header whose records have no right length");
		last = digits + len - 1;
		equals = memchr(p + 1, '=', (size_t)(last - p - 1));
		if (*last != '\n' || !equals || equals == p + 1 || memchr(p + 1, 0, (size_t)(equals - p - 1)))
			return err_set(e, ERR_INVALID, "a pax header that is no list of KEY=VALUE");
		*equals = *last = '\0';
		if (pax_record(t, x, p + 1, equals + 1, (size_t)(last - equals - 1), e) < 0)
			return -1;
		p = last + 1;
	}
	return 0;
}
