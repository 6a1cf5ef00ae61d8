#include "pod/container_spec_parts.h"

#include <limits.h>
#include <stdlib.h>

/* A line of /etc/passwd or /etc/group, cut at its colons. */
enum { FIELDS_MAX = 7 };
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
		out->n = 0;
		while (rest.p && out->n < FIELDS_MAX)
			out->field[out->n++] = str_cut(&rest, ':');
		return true;
	}
	return false;
}

/* An id as the OCI configuration can hold it and as kernels take it; (uid_t)-1 means "no change". */
static int id_parse(struct str text, uint32_t *out)
{
	uint64_t n;
	struct err ignored;

	if (str_to_u64(text, &n, &ignored) < 0 || n > INT32_MAX)
		return -1;
	*out = (uint32_t)n;
	return 0;
}

struct passwd_entry {
	struct str name;
	uint32_t uid, gid;
};

static bool passwd_find(struct str passwd, const struct str *name, const uint32_t *uid, struct passwd_entry *out)
{
	struct line l;

	while (line_next(&passwd, &l)) {
		struct passwd_entry p = { .name = l.field[0] };

		if (l.n < 4 || id_parse(l.field[2], &p.uid) < 0 || id_parse(l.field[3], &p.gid) < 0)
			continue;
		if (name ? str_eq(p.name, *name) : p.uid == *uid) {
			*out = p;
			return true;
		}
	}
	return false;
}

static bool group_find(struct str group, struct str name, uint32_t *gid)
{
	struct line l;

	while (line_next(&group, &l)) {
		if (l.n >= 3 && str_eq(l.field[0], name) && id_parse(l.field[2], gid) == 0)
			return true;
	}
	return false;
}

/* "user" and "group" as asked for, by name or number; p == NULL: not said. */
struct wish {
	struct str user, group;
};

static int wish_of(struct arena *a, const struct container_spec_input *in, struct wish *out, struct err *e)
{
	const struct container_config *c = in->config;
	struct str image = str_of(in->image && in->image->user ? in->image->user : "");

	*out = (struct wish){ 0 };
	if (!str_is_empty(c->run_as_username))
		out->user = str_of(c->run_as_username);
	else if (c->run_as_user)
		out->user = str_of(arena_printf(a, "%lld", (long long)*c->run_as_user));
	if (c->run_as_group) {
		if (!out->user.p)
			return err_set(e, ERR_INVALID, "run_as_group is given without run_as_user or run_as_username");
		out->group = str_of(arena_printf(a, "%lld", (long long)*c->run_as_group));
	}
	if (out->user.p || image.len == 0)
		return 0;
	out->user = str_cut(&image, ':');
	if (image.p && image.len > 0)
		out->group = image;
	return 0;
}

static bool is_number(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return i == 0 && s.p[0] == '-' && s.len > 1;
	}
	return s.len > 0;
}

/* Fills uid and gid; *name is who that is in /etc/passwd, p == NULL: nobody. */
static int user_and_group(const struct container_spec_input *in, const struct wish *w, struct oci_user *out,
			  struct str *name, struct err *e)
{
	struct passwd_entry entry;

	*name = (struct str){ 0 };
	if (w->user.len > 0 && !is_number(w->user)) {
		if (!passwd_find(in->passwd, &w->user, NULL, &entry))
			return err_set(e, ERR_INVALID, "user \"%.*s\" is not in the image's /etc/passwd",
				       STR_ARG(w->user));
		out->uid = entry.uid;
		out->gid = entry.gid;
		*name = entry.name;
	} else {
		if (w->user.len > 0 && id_parse(w->user, &out->uid) < 0)
			return err_set(e, ERR_INVALID, "user %.*s is not between 0 and %d", STR_ARG(w->user),
				       INT32_MAX);
		if (passwd_find(in->passwd, NULL, &out->uid, &entry)) {
			out->gid = entry.gid;
			*name = entry.name;
		}
	}
	if (!w->group.p)
		return 0;
	if (is_number(w->group)) {
		if (id_parse(w->group, &out->gid) < 0)
			return err_set(e, ERR_INVALID, "group %.*s is not between 0 and %d", STR_ARG(w->group),
				       INT32_MAX);
	} else if (!group_find(in->group, w->group, &out->gid)) {
		return err_set(e, ERR_INVALID, "group \"%.*s\" is not in the image's /etc/group",
			       STR_ARG(w->group));
	}
	return 0;
}

struct gids {
	struct arena *a;
	uint32_t *p;
	size_t n, cap;
};

static void gids_add(struct gids *g, uint32_t gid)
{
	if (g->n == g->cap) {
		uint32_t *larger = arena_newn0(g->a, uint32_t, g->cap ? 2 * g->cap : 16);

		if (g->n > 0)
			memcpy(larger, g->p, g->n * sizeof(*larger));
		g->p = larger;
		g->cap = g->cap ? 2 * g->cap : 16;
	}
	g->p[g->n++] = gid;
}

static void gids_add_members(struct gids *g, struct str group, struct str name)
{
	struct line l;
	uint32_t gid;

	while (line_next(&group, &l)) {
		struct str members = l.n >= 4 ? l.field[3] : (struct str){ 0 };

		/* A user's own group of the same name is no supplemental one. */
		if (l.n < 4 || str_eq(l.field[0], name) || id_parse(l.field[2], &gid) < 0)
			continue;
		while (members.p) {
			if (str_eq(str_trim(str_cut(&members, ',')), name)) {
				gids_add(g, gid);
				break;
			}
		}
	}
}

static int compare_gids(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	return (a > b) - (a < b);
}

static size_t sort_unique(uint32_t *p, size_t n)
{
	size_t kept = 0;

	qsort(p, n, sizeof(*p), compare_gids);
	for (size_t i = 0; i < n; i++) {
		if (kept == 0 || p[kept - 1] != p[i])
			p[kept++] = p[i];
	}
	return kept;
}

int spec_user(struct arena *a, const struct container_spec_input *in, struct oci_user *out, struct err *e)
{
	const struct container_config *c = in->config;
	const int64_t *wished = c->supplemental_groups.p;
	struct gids gids = { .a = a };
	struct oci_user user = { 0 };
	struct wish wish;
	struct str name;

	if (wish_of(a, in, &wish, e) < 0 || user_and_group(in, &wish, &user, &name, e) < 0)
		return -1;
	gids_add(&gids, user.gid);
	for (size_t i = 0; i < c->supplemental_groups.count; i++) {
		if (wished[i] < 0 || wished[i] > INT32_MAX)
			return err_set(e, ERR_INVALID, "supplemental_groups: %lld is not between 0 and %d",
				       (long long)wished[i], INT32_MAX);
		gids_add(&gids, (uint32_t)wished[i]);
	}
	if (c->groups_policy == CONFIG_GROUPS_MERGE && name.p)
		gids_add_members(&gids, in->group, name);
	user.additional_gids = (struct json_vec){ gids.p, sort_unique(gids.p, gids.n) };
	*out = user;
	return 0;
}
