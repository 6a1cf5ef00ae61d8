#include "net/attachment.h"

static const struct json_field fields[] = {
	{ "version", JSON_U32, offsetof(struct attachment, version), JSON_REQUIRED },
	{ "state", JSON_STR, offsetof(struct attachment, state), JSON_REQUIRED },
	{ "podId", JSON_STR, offsetof(struct attachment, pod_id), JSON_REQUIRED },
	{ "network", JSON_STR, offsetof(struct attachment, network), JSON_REQUIRED },
	{ "interface", JSON_STR, offsetof(struct attachment, interface), JSON_REQUIRED },
	{ "args", JSON_STR, offsetof(struct attachment, args), JSON_REQUIRED },
	{ "config", JSON_ANY, offsetof(struct attachment, config), JSON_REQUIRED },
	{ "capabilities", JSON_ANY, offsetof(struct attachment, capabilities) },
	{ "result", JSON_ANY, offsetof(struct attachment, result) },
	{ 0 },
};

static char *record_id(struct arena *a, const struct attachment *t)
{
	return arena_printf(a, "%s/%s/%s", t->pod_id, t->network, t->interface);
}

int attachment_put(struct catalog *c, const struct attachment *t, struct err *e)
{
	auto_arena a = { 0 };
	auto_buf b = BUF(ATTACHMENT_MAX);
	struct record r = { .id = record_id(&a, t), .parent = t->pod_id };

	if (json_write(&b, fields, t, e) < 0)
		return err_in(e, "record of the network of pod %s", t->pod_id);
	r.body = buf_str(&b);
	return catalog_put(c, CATALOG_ATTACHMENTS, &r, e);
}

int attachment_delete(struct catalog *c, const struct attachment *t, struct err *e)
{
	auto_arena a = { 0 };

	return catalog_delete(c, CATALOG_ATTACHMENTS, record_id(&a, t), e);
}

struct gather {
	struct arena *a;
	struct attachments *out;
	size_t cap;
};

static int gather(void *ctx, const struct record *r, struct err *e)
{
	struct gather *g = ctx;
	struct attachment t = { 0 };
	struct str body = { arena_strndup(g->a, r->body.p, r->body.len), r->body.len };

	if (json_load(g->a, body, fields, 0, &t, e) < 0) {
		(void)err_in(e, "catalog: attachment %s", r->id);
		return err_kind_to(e, ERR_DATA_LOSS);
	}
	if (t.version > ATTACHMENT_VERSION)
		return err_set(e, ERR_DATA_LOSS, "catalog: attachment %s is of version %u, this knarr knows %d", r->id,
			       t.version, ATTACHMENT_VERSION);
	if (g->out->n == g->cap) {
		struct attachment *more = arena_newn0(g->a, struct attachment, g->cap * 2 + 4);

		if (g->out->n)
			memcpy(more, g->out->p, g->out->n * sizeof(*more));
		g->out->p = more;
		g->cap = g->cap * 2 + 4;
	}
	g->out->p[g->out->n++] = t;
	return 0;
}

int attachments_of(struct catalog *c, struct arena *a, const char *pod_id, struct attachments *out, struct err *e)
{
	struct attachments found = { 0 };
	struct gather g = { a, &found, 0 };
	int rc;

	if (pod_id)
		rc = catalog_each_below(c, CATALOG_ATTACHMENTS, arena_printf(a, "%s/", pod_id), gather, &g, e);
	else
		rc = catalog_each(c, CATALOG_ATTACHMENTS, gather, &g, e);
	if (rc == 0)
		*out = found;
	return rc;
}
