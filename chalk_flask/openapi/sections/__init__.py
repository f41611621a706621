"""Sections of the OpenAPI document: operations outside the API roots, such as imports and the token endpoint.

Routes and examples come in, and go out as `ApiSection`, which the builder of the document adds. Packages above this one
describe their own paths with the same class.
"""

from chalk_flask.openapi.sections.imports import imports_section
from chalk_flask.openapi.sections.section import BASE_URL, ApiSection, SectionOperation
from chalk_flask.openapi.sections.token import TOKEN_PATH, TOKEN_SECTION

__all__ = ["BASE_URL", "TOKEN_PATH", "TOKEN_SECTION", "ApiSection", "SectionOperation", "imports_section"]
