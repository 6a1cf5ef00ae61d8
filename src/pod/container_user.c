#include "pod/container_spec_parts.h"

#include "spec/passwd.h"

#include <stdlib.h>

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

/* Fills uid and gid; *who is that in /etc/passwd, name.p == NULL: nobody. */
static int user_and_group(const struct container_spec_input *in, const struct wish *w, struct oci_user *out,
			  struct passwd_entry *who, struct err *e)
{
	struct passwd_entry entry;

	*who = (struct passwd_entry){ 0 };
	if (w->user.len > 0 && !is_number(w->user)) {
		if (!passwd_find(in->passwd, &w->user, 0, &entry))
			return err_set(e, ERR_INVALID, "user \"%.*s\" is not in the image's /etc/passwd",
				       STR_ARG(w->user));
		out->uid = entry.uid;
		out->gid = entry.gid;
		*who = entry;
	} else {
		if (w->user.len > 0 && passwd_id(w->user, &out->uid) < 0)
			return err_set(e, ERR_INVALID, "user %.*s is not between 0 and %d", STR_ARG(w->user),
				       INT32_MAX);
		if (passwd_find(in->passwd, NULL, out->uid, &entry)) {
			out->gid = entry.gid;
			*who = entry;
		}
	}
	if (!w->group.p)
		return 0;
	if (is_number(w->group)) {
		if (passwd_id(w->group, &out->gid) < 0)
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
	struct group_entry entry;

	/* A user's own group of the same name is no supplemental one. */
	while (group_next(&group, &entry)) {
		if (!str_eq(entry.name, name) && group_has_member(&entry, name))
			gids_add(g, entry.gid);
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

int spec_user(struct arena *a, const struct container_spec_input *in, struct oci_user *out, const char **home,
	      struct err *e)
{
	const struct container_config *c = in->config;
	const int64_t *wished = c->supplemental_groups.p;
	struct gids gids = { .a = a };
	struct oci_user user = { 0 };
	struct passwd_entry who;
	struct wish wish;

	if (wish_of(a, in, &wish, e) < 0 || user_and_group(in, &wish, &user, &who, e) < 0)
		return -1;
	gids_add(&gids, user.gid);
	for (size_t i = 0; i < c->supplemental_groups.count; i++) {
		if (wished[i] < 0 || wished[i] > INT32_MAX)
			return err_set(e, ERR_INVALID, "supplemental_groups: %lld is not between 0 and %d",
				       (long long)wished[i], INT32_MAX);
		gids_add(&gids, (uint32_t)wished[i]);
	}
	if (c->groups_policy == CONFIG_GROUPS_MERGE && who.name.p)
		gids_add_members(&gids, in->group, who.name);
	user.additional_gids = (struct json_vec){ gids.p, sort_unique(gids.p, gids.n) };
	*home = who.home.len > 0 ? str_dup(a, who.home) : "/";
	*out = user;
	return 0;
}
