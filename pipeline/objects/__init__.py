"""What other systems take of a slide's results: DICOM annotations and reports, FHIR."""
