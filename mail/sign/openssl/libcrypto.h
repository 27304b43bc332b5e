// What of libcrypto is used, found when the program starts.

#include <stddef.h>
#include <stdint.h>
#include <openssl/evp.h>

// A libcrypto holds the functions; it is never closed.
struct libcrypto;

struct libcrypto_opened {
	struct libcrypto *lib; // NULL: see why
	char why[256];
};

struct libcrypto_signed {
	size_t size; // 0: see why
	char why[256];
};

// libcrypto_open loads a shared library by its name, which ends with a NUL.
struct libcrypto_opened libcrypto_open(const uint8_t *file);
const char *libcrypto_version(struct libcrypto *lib);

// libcrypto_key reads a PKCS #8 key; NULL if it cannot.
EVP_PKEY *libcrypto_key(struct libcrypto *lib, const uint8_t *der, long size);
void libcrypto_free(struct libcrypto *lib, EVP_PKEY *key);

// libcrypto_sign signs a SHA-256 digest by PKCS #1 v1.5 into out.
struct libcrypto_signed libcrypto_sign(struct libcrypto *lib, EVP_PKEY *key,
	const uint8_t *digest, size_t digest_size, uint8_t *out, size_t out_size);
