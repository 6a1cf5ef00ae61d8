#include "spec/passwd.h"

/* A line, cut at its colons. */
enum { FIELDS_MAX = 7 };
enum { NAME, PASSWORD, ID, GID, GECOS, HOME, MEMBERS = GID };
struct line {
	struct str field[FIELDS_MAX];
	size_t n;
};

static bool line_next(struct str *text, struct line *out)
{
	while (text->p) {
		struct str rest = str_trim(str_cut(text, '\n'));

		if (rest.len == 0 || rest.p[0] == '#')
			continue;
		*out = (struct line){ 0 };
		while (rest.p && out->n < FIELDS_MAX)
			out->field[out->n++] = str_cut(&rest, ':');
		return true;
	}
	return false;
}

int passwd_id(struct str text, uint32_t *out)
{
	uint64_t n;
	struct err ignored;

	if (str_to_u64(text, &n, &ignored) < 0 || n > INT32_MAX)
		return -1;
	*out = (uint32_t)n;
	return 0;
}

bool passwd_find(struct str passwd, const struct str *name, uint32_t uid, struct passwd_entry *out)
{
	struct line l;

	while (line_next(&passwd, &l)) {
		struct passwd_entry p = { .name = l.field[NAME], .home = l.field[HOME] };

		if (l.n <= GID || passwd_id(l.field[ID], &p.uid) < 0 || passwd_id(l.field[GID], &p.gid) < 0)
			continue;
		if (name ? str_eq(p.name, *name) : p.uid == uid) {
			*out = p;
			return true;
		}
	}
	return false;
}

bool group_next(struct str *group, struct group_entry *out)
{
	struct line l;

	while (line_next(group, &l)) {
		struct group_entry g = { .name = l.field[NAME], .members = l.field[MEMBERS] };

		if (l.n <= ID || passwd_id(l.field[ID], &g.gid) < 0)
			continue;
		*out = g;
		return true;
	}
	return false;
}

bool group_find(struct str group, struct str name, uint32_t *gid)
{
	struct group_entry g;

	while (group_next(&group, &g)) {
		if (str_eq(g.name, name)) {
			*gid = g.gid;
			return true;
		}
	}
	return false;
}

bool group_has_member(const struct group_entry *g, struct str name)
{
	struct str rest = g->members;

	while (rest.p) {
		if (str_eq(str_trim(str_cut(&rest, ',')), name))
			return true;
	}
	return false;
}
