#include "spec/manifest.h"

#include "spec/digest.h"

#define SCHEMA1 "application/vnd.docker.distribution.manifest.v1"

struct document {
	int64_t schema_version;
	char *media_type;
	struct descriptor *config;
	struct json_vec layers, manifests;
	const struct json *fs_layers; /* Docker's schema 1 */
};

static const struct json_field platform_fields[] = {
	{ "os", JSON_STR, offsetof(struct platform, os) },
	{ "architecture", JSON_STR, offsetof(struct platform, architecture) },
	{ "variant", JSON_STR, offsetof(struct platform, variant) },
	{ "os.version", JSON_STR, offsetof(struct platform, os_version) },
	{ 0 },
};

static const struct json_field descriptor_fields[] = {
	{ "mediaType", JSON_STR, offsetof(struct descriptor, media_type) },
	{ "digest", JSON_STR, offsetof(struct descriptor, digest), JSON_REQUIRED },
	{ "size", JSON_I64, offsetof(struct descriptor, size), JSON_REQUIRED },
	{ "annotations", JSON_MAP, offsetof(struct descriptor, annotations) },
	{ "platform", JSON_OBJ, offsetof(struct descriptor, platform), 0, platform_fields,
	  sizeof(struct platform) },
	{ 0 },
};

static const struct json_field document_fields[] = {
	{ "schemaVersion", JSON_I64, offsetof(struct document, schema_version), JSON_REQUIRED },
	{ "mediaType", JSON_STR, offsetof(struct document, media_type) },
	{ "config", JSON_OBJ, offsetof(struct document, config), 0, descriptor_fields,
	  sizeof(struct descriptor) },
	{ "layers", JSON_OBJV, offsetof(struct document, layers), 0, descriptor_fields,
	  sizeof(struct descriptor) },
	{ "manifests", JSON_OBJV, offsetof(struct document, manifests), 0, descriptor_fields,
	  sizeof(struct descriptor) },
	{ "fsLayers", JSON_ANY, offsetof(struct document, fs_layers) },
	{ 0 },
};

bool media_is_index(const char *media_type)
{
	return streq(media_type, MEDIA_OCI_INDEX) || streq(media_type, MEDIA_DOCKER_LIST);
}

bool media_is_manifest(const char *media_type)
{
	return streq(media_type, MEDIA_OCI_MANIFEST) || streq(media_type, MEDIA_DOCKER_MANIFEST);
}

static int refuse_schema1(struct err *e)
{
	return err_set(e, ERR_UNIMPLEMENTED,
		       "the registry serves this image as Docker schema 1 only, a format given up in 2017: "
		       "push it again with a current tool");
}

static int check_descriptor(const struct descriptor *d, struct err *e)
{
	if (digest_check(d->digest, e) < 0)
		return -1;
	if (d->size < 0)
		return err_set(e, ERR_INVALID, "%s has the size %lld", d->digest, (long long)d->size);
	return 0;
}

static int check_layer(const struct descriptor *d, struct err *e)
{
	static const char *const plain[] = {
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.docker.image.rootfs.diff.tar",
	};
	static const char *const packed[] = { "", "+gzip", "+zstd", ".gzip", ".zstd" };
	const char *type = d->media_type ? d->media_type : "";

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		if (!starts_with(type, plain[i]))
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(packed); k++) {
			if (streq(type + strlen(plain[i]), packed[k]))
				return 0;
		}
	}
	if (ends_with(type, "+encrypted"))
		return err_set(e, ERR_UNIMPLEMENTED, "layer %s is encrypted", d->digest);
	return err_set(e, ERR_UNIMPLEMENTED, "layer %s has the media type \"%.100s\", which knarr "
		       "does not unpack", d->digest, type);
}

static int check_config(const struct descriptor *d, struct err *e)
{
	if (check_descriptor(d, e) < 0)
		return err_in(e, "config");
	if (d->media_type && !streq(d->media_type, MEDIA_OCI_CONFIG) &&
	    !streq(d->media_type, MEDIA_DOCKER_CONFIG))
		return err_set(e, ERR_UNIMPLEMENTED, "this is an artifact of the type \"%.100s\", not a "
			       "container image", d->media_type);
	return 0;
}

static int take_image(const struct document *d, struct manifest *m, struct err *e)
{
	if (!d->config)
		return err_set(e, ERR_INVALID, "the manifest names no config");
	if (d->layers.count > MANIFEST_LAYERS_MAX)
		return err_set(e, ERR_EXHAUSTED, "the manifest has %zu layers, more than %d",
			       d->layers.count, MANIFEST_LAYERS_MAX);
	if (check_config(d->config, e) < 0)
		return -1;
	m->config = *d->config;
	m->layers = d->layers.p;
	m->nlayers = d->layers.count;
	for (size_t i = 0; i < m->nlayers; i++) {
		if (check_descriptor(&m->layers[i], e) < 0 || check_layer(&m->layers[i], e) < 0)
			return err_in(e, "layers[%zu]", i);
	}
	return 0;
}

static int take_index(const struct document *d, struct manifest *m, struct err *e)
{
	if (d->manifests.count > INDEX_MANIFESTS_MAX)
		return err_set(e, ERR_EXHAUSTED, "the index has %zu manifests, more than %d",
			       d->manifests.count, INDEX_MANIFESTS_MAX);
	m->manifests = d->manifests.p;
	m->nmanifests = d->manifests.count;
	for (size_t i = 0; i < m->nmanifests; i++) {
		if (check_descriptor(&m->manifests[i], e) < 0)
			return err_in(e, "manifests[%zu]", i);
	}
	return 0;
}

/* "application/json; charset=utf-8" without its parameters; NULL where it says nothing. */
static char *bare_type(struct arena *a, const char *media_type)
{
	struct str rest = str_of(media_type ? media_type : ""), type = str_trim(str_cut(&rest, ';'));

	if (type.len == 0 || str_eqz(type, "application/json") || str_eqz(type, "text/plain") ||
	    str_eqz(type, "application/octet-stream"))
		return NULL;
	return str_dup(a, type);
}

static int find_type(const struct document *d, char *told, char **out, struct err *e)
{
	char *type = str_is_empty(d->media_type) ? told : d->media_type;

	if (d->schema_version == 1 || d->fs_layers || (type && starts_with(type, SCHEMA1)))
		return refuse_schema1(e);
	if (d->schema_version != 2)
		return err_set(e, ERR_INVALID, "the manifest's schemaVersion is %lld, not 2",
			       (long long)d->schema_version);
	/* A document that can be read both ways says different things to different readers. */
	if (d->manifests.p && (d->layers.p || d->config))
		return err_set(e, ERR_INVALID, "the document is an index and a manifest at once");
	if (told && type != told && !streq(told, type))
		return err_set(e, ERR_INVALID, "the registry calls the document \"%.100s\", it calls itself "
			       "\"%.100s\"", told, type);
	if (!type)
		type = (char *)(d->manifests.p ? MEDIA_OCI_INDEX : MEDIA_OCI_MANIFEST);
	if (!media_is_index(type) && !media_is_manifest(type))
		return err_set(e, ERR_UNIMPLEMENTED, "\"%.100s\" is no image manifest or index", type);
	if (media_is_index(type) != (d->manifests.p != NULL))
		return err_set(e, ERR_INVALID, "the document is called \"%.100s\" and has %s", type,
			       d->manifests.p ? "manifests" : "no manifests");
	*out = type;
	return 0;
}

int manifest_parse(struct arena *a, struct str text, const char *media_type, struct manifest *out,
		   struct err *e)
{
	struct document d = { 0 };
	struct manifest m = { 0 };

	if (text.len > MANIFEST_MAX)
		return err_set(e, ERR_EXHAUSTED, "the manifest has %zu bytes, more than %d", text.len,
			       MANIFEST_MAX);
	if (json_load(a, text, document_fields, 0, &d, e) < 0)
		return err_in(e, "image manifest");
	if (find_type(&d, bare_type(a, media_type), &m.media_type, e) < 0)
		return -1;
	m.kind = media_is_index(m.media_type) ? MANIFEST_INDEX : MANIFEST_IMAGE;
	if ((m.kind == MANIFEST_INDEX ? take_index(&d, &m, e) : take_image(&d, &m, e)) < 0)
		return err_in(e, "image manifest");
	*out = m;
	return 0;
}

static int none_matches(struct arena *a, const struct manifest *index, const struct platform *host,
			struct err *e)
{
	enum { SHOWN = 12 };
	const char *list = "";
	size_t n = 0;

	for (size_t i = 0; i < index->nmanifests; i++) {
		const struct platform *p = index->manifests[i].platform;

		if (!p || streq_null(p->os, "unknown"))
			continue;
		if (++n <= SHOWN)
			list = arena_printf(a, "%s%s%.40s", list, *list ? ", " : "", platform_text(a, p));
	}
	return err_set(e, ERR_NOT_FOUND, "the image has nothing for %s; it is made for: %s%s",
		       platform_text(a, host), *list ? list : "no platform at all", n > SHOWN ? ", …" : "");
}

int manifest_choose(struct arena *a, const struct manifest *index, const struct platform *host,
		    const struct descriptor **out, struct err *e)
{
	static const struct platform unsaid;
	const struct descriptor *best = NULL;
	unsigned best_match = 0;

	for (size_t i = 0; i < index->nmanifests; i++) {
		const struct descriptor *d = &index->manifests[i];
		unsigned match;

		if (d->media_type && !media_is_manifest(d->media_type))
			continue;
		match = platform_match(host, d->platform ? d->platform : &unsaid);
		if (match <= best_match)
			continue;
		best = d;
		best_match = match;
	}
	if (!best)
		return none_matches(a, index, host, e);
	*out = best;
	return 0;
}
